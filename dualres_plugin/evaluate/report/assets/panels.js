// Score histogram, what became of the images on each side of the threshold, and AP by object size.
const SAME = 0.0005; // AP of an image that differs by less counts as the same

class Histogram {
  constructor(box) {
    this.box = box;
    this.scores = data.scores.filter(isNumber); // highest first; images without a score come last and go low
    const n = this.scores.length;
    const quantile = (q) => this.scores[clamp(Math.round((1 - q) * (n - 1)), 0, n - 1)];
    this.from = n ? quantile(0.005) : 0;
    this.to = n ? quantile(0.995) : 1;
    if (!(this.to > this.from)) { this.from -= 0.5; this.to += 0.5; }
    const count = clamp(Math.ceil(2 * Math.sqrt(n)), 6, 40);
    // Bin i holds a run of ranks: where it starts and how many. The end bins take what lies beyond.
    this.bins = Array.from({ length: count }, () => ({ start: n, count: 0 }));
    this.scores.forEach((score, rank) => {
      const bin = this.bins[clamp(Math.floor(((score - this.from) / (this.to - this.from)) * count), 0, count - 1)];
      bin.start = Math.min(bin.start, rank);
      bin.count += 1;
    });
  }

  // Halfway between the last score that goes high and the first that does not.
  threshold(atHigh) {
    const s = this.scores;
    if (!s.length) return NaN;
    if (atHigh <= 0) return s[0];
    return atHigh >= s.length ? s[s.length - 1] : (s[atHigh - 1] + s[atHigh]) / 2;
  }

  draw() {
    const width = this.box.clientWidth, height = 210;
    const left = 8, bottom = height - 26, top = 22;
    const most = Math.max(1, ...this.bins.map((b) => b.count));
    const step = (width - left * 2) / this.bins.length;
    this.scale = (score) => left + clamp((score - this.from) / (this.to - this.from), 0, 1) * (width - left * 2);
    this.height = (count) => (count / most) * (bottom - top);
    this.bottom = bottom;
    const root = svg("svg", { height, role: "img", "aria-label": "Histogram of the router scores" });
    this.bars = this.bins.map((_, i) => {
      const x = left + i * step + 0.5, w = Math.max(1, step - 1.5);
      const pair = [svg("rect", { class: "bin low", x, width: w }), svg("rect", { class: "bin high", x, width: w })];
      root.append(...pair);
      return pair;
    });
    root.append(svg("line", { class: "grid", x1: left, x2: width - left, y1: bottom, y2: bottom }));
    for (const t of ticks(this.from, this.to, width < 400 ? 4 : 6)) {
      root.append(svg("text", { x: this.scale(t), y: height - 8, "text-anchor": "middle" }, String(t).replace("-", "−")));
    }
    this.line = svg("line", { class: "threshold", y1: top - 6, y2: bottom });
    this.label = svg("text", { class: "name now", y: 11 });
    root.append(this.line, this.label);
    this.box.replaceChildren(root);
    if (this.point) this.move(this.point);
  }

  move(point) {
    this.point = point;
    this.bins.forEach((bin, i) => {
      const high = clamp(point.atHigh - bin.start, 0, bin.count);
      const [lowBar, highBar] = this.bars[i];
      const lowHeight = this.height(bin.count - high), highHeight = this.height(high);
      fill(lowBar, { y: this.bottom - lowHeight, height: lowHeight }, []);
      fill(highBar, { y: this.bottom - lowHeight - highHeight, height: highHeight }, []);
    });
    const threshold = this.threshold(point.atHigh);
    if (!isNumber(threshold)) return;
    const x = this.scale(threshold);
    const anchor = x < 70 ? "start" : x > this.box.clientWidth - 70 ? "end" : "middle";
    fill(this.line, { x1: x, x2: x }, []);
    fill(this.label, { x, "text-anchor": anchor }, []);
    this.label.textContent = `threshold ${signed(threshold)}`;
  }
}

function showOutcome(point) {
  const rows = byId("outcome").tBodies[0].rows;
  const sides = [data.gains.slice(0, point.atHigh), data.gains.slice(point.atHigh)];
  sides.forEach((gains, i) => {
    const known = gains.filter(isNumber);
    const better = known.filter((g) => g > SAME).length, worse = known.filter((g) => g < -SAME).length;
    [better, known.length - better - worse, worse].forEach((count, j) => { rows[i].cells[j + 1].textContent = count; });
  });
  byId("n-high").textContent = plural(point.atHigh, "image");
  byId("n-low").textContent = plural(data.n - point.atHigh, "image");
}

class SizeTable {
  constructor(table) {
    const known = data.sizes.filter((s) => s.points.length);
    const all = known.flatMap((s) => s.points.map((p) => p.ap)).filter(isNumber);
    const most = Math.max(0.01, ...all);
    this.rows = data.sizes.map((size) => {
      const at = (ap) => `left:${((100 * ap) / most).toFixed(2)}%`;
      const rail = el("div", { class: "rail" });
      const routed = el("td", { class: "routed" }, "–"), kept = el("td", { class: "kept" }, "–");
      const row = { size, routed, kept, beta: size.points.map((p) => p.beta), ap: size.points.map((p) => p.ap), at };
      if (size.points.length) {
        row.now = el("i", { class: "now" });
        const from = Math.min(size.ap_low, size.ap_high) / most, to = Math.max(size.ap_low, size.ap_high) / most;
        const span = `left:${100 * from}%;width:${100 * (to - from)}%`;
        rail.append(el("i", { class: "bar", style: span }), el("i", { class: "dot low", style: at(size.ap_low) }));
        rail.append(el("i", { class: "dot high", style: at(size.ap_high) }), row.now);
      }
      const name = el("th", { scope: "row" }, size.name, el("small", {}, String(size.objects)));
      const low = el("td", { class: "c-low" }, apText(size.ap_low)), high = el("td", { class: "c-high" }, apText(size.ap_high));
      table.tBodies[0].append(el("tr", { id: `size-${size.name}` }, name, el("td", {}, rail), low, routed, high, kept));
      return row;
    });
  }

  move(point) {
    for (const row of this.rows) {
      if (!row.now) continue;
      const ap = interpolate(row.beta, row.ap, point.beta);
      row.routed.textContent = apText(ap);
      row.kept.textContent = percent(share(ap, row.size.ap_low, row.size.ap_high));
      row.now.setAttribute("style", row.at(ap));
    }
  }
}
