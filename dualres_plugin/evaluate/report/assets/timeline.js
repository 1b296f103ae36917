// What a stream costs over time: the size of each frame, its score against the threshold, and the mean cost.
const STEP_COLOURS = ["--fixed", "--oracle", "--cascade"]; // of sizes between the largest and the smallest
const ROW = 16, BAND = 92, GAP = 30;

// The colour of a size: 0 the largest, -1 a skipped frame.
function stepColour(step, count) {
  if (step < 0) return "var(--random)";
  if (step === 0) return "var(--high)";
  return step === count - 1 ? "var(--low)" : `var(${STEP_COLOURS[(step - 1) % STEP_COLOURS.length]})`;
}

// The series of a clip: x, step, score and cost of each frame, threshold of each or one for all; names by step, cuts as
// x, count of sizes, most (the cost of all at the largest size), budget (a mean cost, or none), and words: xName, costName, costText.
class Timeline {
  constructor(box, says) {
    this.box = box;
    this.says = says;
    this.series = null;
    box.addEventListener("pointermove", (event) => this.point(event.clientX - box.getBoundingClientRect().left));
    box.addEventListener("pointerleave", () => this.rest());
  }

  show(series) {
    this.series = series;
    this.draw();
    this.rest();
  }

  draw() {
    const s = this.series;
    if (!s) return;
    this.width = this.box.clientWidth;
    this.left = 46;
    this.right = this.width - 8;
    this.steps = Object.keys(s.names).map(Number).sort((a, b) => (a < 0) - (b < 0) || a - b);
    const n = s.x.length;
    this.first = s.x[0];
    this.span = n > 1 ? s.x[n - 1] + (s.x[n - 1] - this.first) / (n - 1) - this.first : 1; // a frame lasts until the next
    const sizes = 22, scores = sizes + ROW * this.steps.length + GAP, cost = scores + BAND + GAP;
    this.bottom = cost + BAND;
    const root = svg("svg", { height: this.bottom + 40, role: "img", "aria-label": `Size, score and cost of ${n} frames` });
    for (const t of ticks(this.first, this.first + this.span, this.width < 560 ? 4 : 8)) {
      if (s.whole && !Number.isInteger(t)) continue;
      root.append(svg("line", { class: "grid", x1: this.at(t), x2: this.at(t), y1: sizes, y2: this.bottom }));
      root.append(svg("text", { x: this.at(t), y: this.bottom + 17, "text-anchor": "middle" }, String(t)));
    }
    root.append(svg("text", { x: this.right, y: this.bottom + 34, "text-anchor": "end" }, s.xName));
    for (const x of s.cuts) root.append(svg("path", { class: "cutline", d: `M${this.at(x)} ${sizes - 8}V${this.bottom}` }));
    this.drawSizes(root, sizes);
    this.drawScores(root, scores);
    this.drawCost(root, cost);
    this.guide = svg("path", { class: "guide", fill: "none" });
    root.append(this.guide);
    this.box.replaceChildren(root);
  }

  at(x) { return +(this.left + ((x - this.first) / this.span) * (this.right - this.left)).toFixed(1); }

  // Runs of one size are one stroke each.
  drawSizes(root, top) {
    const { x, step, names, count } = this.series;
    const ends = [...x.slice(1), this.first + this.span];
    root.append(svg("text", { x: 0, y: top - 9, class: "name head-text" }, "size"));
    this.steps.forEach((wanted, row) => {
      const y = top + ROW * (row + 0.5);
      let d = "";
      for (let i = 0; i < x.length; i++) {
        if (step[i] !== wanted) continue;
        const begin = i;
        while (i + 1 < x.length && step[i + 1] === wanted) i++;
        d += `M${this.at(x[begin])} ${y}H${Math.max(this.at(ends[i]), this.at(x[begin]) + 0.8)}`;
      }
      root.append(svg("path", { class: "run-of", d, style: `stroke:${stepColour(wanted, count)}`, "data-step": wanted }));
      root.append(svg("text", { x: this.left - 7, y: y + 4, "text-anchor": "end" }, names[wanted]));
    });
  }

  line(values, y) {
    let d = "", pen = false;
    values.forEach((value, i) => {
      if (!isNumber(value)) { pen = false; return; }
      d += `${pen ? "L" : "M"}${this.at(this.series.x[i])} ${y(value).toFixed(1)}`;
      pen = true;
    });
    return d;
  }

  band(root, top, name, from, to, text) {
    const y = (value) => top + BAND - ((clamp(value, from, to) - from) / (to - from || 1)) * BAND;
    for (const t of ticks(from, to, 3)) {
      root.append(svg("line", { class: "grid", x1: this.left, x2: this.right, y1: y(t), y2: y(t) }));
      root.append(svg("text", { x: this.left - 7, y: y(t) + 4, "text-anchor": "end" }, text(t)));
    }
    root.append(svg("text", { x: 0, y: top - 10, class: "name head-text" }, name));
    return y;
  }

  thresholds() {
    const { threshold, x } = this.series;
    return Array.isArray(threshold) ? threshold : x.map(() => threshold);
  }

  drawScores(root, top) {
    const limits = this.thresholds();
    const known = [...this.series.score, ...limits].filter(isNumber);
    let from = known.reduce((a, b) => Math.min(a, b), Infinity), to = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!known.length) [from, to] = [0, 1];
    if (from === to) { from -= 0.5; to += 0.5; }
    const y = this.band(root, top, "score", from, to, (t) => String(t).replace("-", "−"));
    root.append(svg("path", { class: "curve score", d: this.line(this.series.score, y) }));
    root.append(svg("path", { class: "curve limit", d: this.line(limits, y) }));
  }

  drawCost(root, top) {
    const { cost, most, budget, costName, costText } = this.series;
    const y = this.band(root, top, costName, 0, Math.max(most, ...(isNumber(budget) ? [budget] : [])) * 1.05, costText);
    root.append(svg("path", { class: "curve router", d: this.line(cost, y) }));
    if (!isNumber(budget)) return;
    root.append(svg("path", { class: "curve budget-line", d: `M${this.left} ${y(budget)}H${this.right}` }));
    root.append(svg("text", { class: "name budget-text", x: this.right, y: y(budget) - 5, "text-anchor": "end" }, `budget ${costText(budget)}`));
  }

  // What is under the pointer.
  point(left) {
    const s = this.series;
    if (!s || left < this.left || left > this.right) { this.rest(); return; }
    const x = this.first + ((left - this.left) / (this.right - this.left)) * this.span;
    let i = 0;
    while (i + 1 < s.x.length && s.x[i + 1] <= x) i++;
    this.guide.setAttribute("d", `M${left} 14V${this.bottom}`);
    const limit = this.thresholds()[i];
    const score = isNumber(s.score[i]) ? `, score ${signed(s.score[i])}${isNumber(limit) ? ` (threshold ${signed(limit)})` : ""}` : "";
    this.says.textContent = `${s.xName} ${+s.x[i].toFixed(2)}: ${s.names[s.step[i]]}${score}, ${s.costName} ${s.costText(s.cost[i])}`;
  }

  rest() {
    if (!this.series) return;
    if (this.guide) this.guide.setAttribute("d", "");
    this.says.textContent = this.series.summary;
  }
}

// Mean of the last `window` values at each place.
function trailing(values, window) {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= window ? values[i - window] : 0);
    return sum / Math.min(i + 1, window);
  });
}

function drawTimelineLegend(list) {
  const key = (kind, text) => {
    const line = svg("svg", { viewBox: "0 0 30 8", "aria-hidden": "true" }, svg("path", { class: kind, d: "M0 4H30" }));
    list.append(el("li", {}, line, el("span", {}, text)));
  };
  key("curve score", "score");
  key("curve limit", "threshold");
  key("curve router", "cost");
  key("curve budget-line", "budget");
  key("cutline", "cut: a new scene");
}

// The clips of a profile, at any operating point of the slider.
class ClipTimeline {
  constructor(clips) {
    this.clips = clips;
    this.chart = new Timeline(byId("timeline"), byId("timeline-says"));
    this.choice = byId("clip");
    clips.names.forEach((name, i) => this.choice.append(el("option", { value: i }, name)));
    this.choice.addEventListener("change", () => this.move(this.at));
    drawTimelineLegend(byId("timeline-legend"));
  }

  draw() { this.chart.draw(); this.chart.rest(); }

  move(point) {
    this.at = point;
    const { starts, ranks, frames, cuts, window } = this.clips;
    const clip = +this.choice.value, begin = starts[clip], end = starts[clip + 1];
    const order = ranks.slice(begin, end);
    const step = order.map((rank) => (rank < point.atHigh ? 0 : 1));
    const spent = step.map((s) => (s ? data.clips.low : data.clips.high));
    const high = step.filter((s) => !s).length, x = frames.slice(begin, end);
    const mean = spent.reduce((a, b) => a + b, 0) / spent.length;
    const inside = cuts.filter((i) => begin < i && i < end).map((i) => frames[i]);
    this.chart.show({
      x, step, score: order.map((rank) => data.scores[rank]), threshold: histogram.threshold(point.atHigh),
      cost: trailing(spent, window), names: { 0: "high", 1: "low" }, count: 2, cuts: inside, most: data.clips.high,
      budget: point.gmacs, xName: "frame", costName: `GMACs, mean of ${window} frames`, whole: true,
      costText: (gmacs) => (gmacs ? amount(gmacs) : "0"),
      summary: `${plural(x.length, "frame")}, ${plural(inside.length, "cut")}: ${high} at high, mean ${amount(mean)} GMACs; all clips together ${amount(point.gmacs)}.`,
    });
  }
}
