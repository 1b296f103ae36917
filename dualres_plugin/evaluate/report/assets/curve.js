// The trade-off curve, its legend, and the small strips of the headline.
const curves = data.curves.map((c) => ({
  ...c, beta: c.points.map((p) => p[0]), gmacs: c.points.map((p) => p[1]), ap: c.points.map((p) => p[2]),
}));
const router = curves[0];
const curveNamed = (name) => curves.find((c) => c.name === name);
// A share of the step from low to high; none where that step is noise.
const share = (ap, low, high) => (high - low >= data.least_step ? (ap - low) / (high - low) : NaN);
const apAt = (curve, gmacs) => interpolate(curve.gmacs, curve.ap, gmacs);

// The operating point at one position of the slider.
function operatingPoint(i) {
  const [beta, gmacs, ap] = router.points[i];
  const t = data.timings;
  return {
    i, beta, gmacs, ap, atHigh: data.counts[i],
    ms: t ? t.t_router + t.t_low + beta * (t.t_high - t.t_low) : NaN,
    kept: share(ap, data.low.ap, data.high.ap),
    saved: 1 - gmacs / data.high.gmacs,
  };
}

class CurveChart {
  constructor(box, onPick) {
    this.box = box;
    this.point = null;
    const pick = (event) => {
      const x = event.clientX - this.box.getBoundingClientRect().left;
      const gmacs = this.x0 + ((x - this.left) / this.innerWidth) * (this.x1 - this.x0);
      let best = 0;
      router.gmacs.forEach((g, i) => { if (Math.abs(g - gmacs) < Math.abs(router.gmacs[best] - gmacs)) best = i; });
      onPick(best);
    };
    box.addEventListener("pointerdown", (event) => { if (event.button === 0) pick(event); });
    box.addEventListener("pointermove", (event) => { if (event.buttons & 1) pick(event); });
  }

  draw() {
    const width = this.box.clientWidth;
    const narrow = width < 560;
    const height = clamp(width * 0.5, 300, 460);
    this.left = 40; this.top = 40; this.bottom = height - 44;
    this.innerWidth = width - this.left - 14;
    const gmacs = [...curves.flatMap((c) => c.gmacs), data.low.gmacs, data.high.gmacs];
    const aps = [...curves.flatMap((c) => c.ap), data.low.ap, data.high.ap];
    const side = 0.03 * (Math.max(...gmacs) - Math.min(...gmacs)) || 0.1;
    const room = 0.08 * (Math.max(...aps) - Math.min(...aps)) || 0.01;
    const below = Math.max(room, 34 * (Math.max(...aps) + room - Math.min(...aps)) / (this.bottom - this.top - 34));
    this.x0 = Math.min(...gmacs) - side; this.x1 = Math.max(...gmacs) + side;
    this.y0 = Math.min(...aps) - below; // for the name of the low end
    this.y1 = Math.max(...aps) + room;
    const root = svg("svg", { height, role: "img", "aria-label": "AP against GMACs per image for the router and the baselines" });
    this.axes(root, width, narrow);
    for (const c of [...curves.slice(1), router]) root.append(svg("path", { class: `curve ${c.name}`, d: this.path(c) }));
    this.end(root, "low", data.low, "middle");
    this.end(root, "high", data.high, narrow ? "middle" : "start");
    this.guides = svg("path", { class: "guide", fill: "none" });
    this.marker = svg("circle", { class: "point now", r: 8 });
    this.label = svg("text", { class: "name now" });
    root.append(this.guides, this.marker, this.label);
    this.box.replaceChildren(root);
    if (this.point) this.move(this.point);
  }

  x(gmacs) { return this.left + ((gmacs - this.x0) / (this.x1 - this.x0)) * this.innerWidth; }
  y(ap) { return this.bottom - ((ap - this.y0) / (this.y1 - this.y0)) * (this.bottom - this.top); }
  path(c) { return c.points.map((p, i) => `${i ? "L" : "M"}${this.x(p[1]).toFixed(1)} ${this.y(p[2]).toFixed(1)}`).join(""); }

  axes(root, width, narrow) {
    const right = this.left + this.innerWidth;
    for (const t of ticks(100 * this.y0, 100 * this.y1, 6)) {
      const y = this.y(t / 100);
      root.append(svg("line", { class: "grid", x1: this.left, x2: right, y1: y, y2: y }));
      root.append(svg("text", { x: this.left - 7, y: y + 4, "text-anchor": "end" }, String(t)));
    }
    const mark = (gmacs, text, y) => root.append(svg("text", { x: this.x(gmacs), y, "text-anchor": "middle" }, text));
    const count = narrow ? 4 : 8;
    for (const t of ticks(this.x0, this.x1, count)) mark(t, String(t), this.bottom + 18);
    for (const t of ticks(2 * this.x0, 2 * this.x1, count)) mark(t / 2, String(t), this.top - 8);
    root.append(svg("line", { class: "grid", x1: this.left, x2: right, y1: this.bottom, y2: this.bottom }));
    root.append(svg("text", { x: right, y: this.bottom + 36, "text-anchor": "end" }, "GMACs per image"));
    root.append(svg("text", { x: right, y: 12, "text-anchor": "end" }, "GFLOPs (2 × GMACs)"));
    root.append(svg("text", { x: this.left - 28, y: 12 }, "AP"));
  }

  end(root, name, at, anchor) {
    const x = this.x(at.gmacs), y = this.y(at.ap);
    root.append(svg("circle", { class: `point ${name}`, cx: x, cy: y, r: 6.5 }));
    const text = svg("text", { class: `name ${name}`, x: Math.max(x, this.left + 26), y: y + 22, "text-anchor": anchor });
    text.append(`${name} ${apText(at.ap)}`);
    root.append(text);
  }

  move(point) {
    this.point = point;
    const x = this.x(point.gmacs), y = this.y(point.ap);
    fill(this.marker, { cx: x, cy: y }, []);
    fill(this.guides, { d: `M${this.left} ${y}H${x}V${this.bottom}` }, []);
    // Below and right of the curve there is room; near the right edge the text turns round.
    const end = x > this.left + 0.8 * this.innerWidth;
    fill(this.label, { x: x + (end ? -13 : 13), y: y + 19, "text-anchor": end ? "end" : "start" }, []);
    this.label.textContent = apText(point.ap);
  }
}

function drawLegend() {
  for (const c of curves) {
    const line = svg("svg", { viewBox: "0 0 30 8", "aria-hidden": "true" }, svg("path", { class: `curve ${c.name}`, d: "M0 4H30" }));
    const spread = c.name === "random" && isNumber(data.auc.sd) ? ` ± ${data.auc.sd.toFixed(2)}` : "";
    const value = isNumber(c.auc) ? ` AUC-Policy ${c.auc.toFixed(2)}${spread}` : "";
    byId("legend").append(el("li", {}, line, el("b", {}, c.name), el("span", { class: "soft" }, value)));
  }
}

function sayCurve(point) {
  const compare = ["random", "oracle", "cascade", "fixed size"].filter(curveNamed).map((name) => {
    const curve = curveNamed(name);
    if (point.gmacs < curve.gmacs[0] - 1e-9 || point.gmacs > curve.gmacs[curve.gmacs.length - 1] + 1e-9) return null;
    const other = apAt(curve, point.gmacs);
    return `${name} ${apText(other)} (router ${signed(100 * (point.ap - other), 1).replace(/^[+−](0.0)$/, "±$1")})`;
  });
  byId("curve-says").textContent =
    `At ${amount(point.gmacs)} GMACs the router reaches AP ${apText(point.ap)}. With the same compute: ${compare.filter(Boolean).join(", ") || "nothing to compare"}.`;
}

// A strip: dots, ticks and bars on a line from `from` to `to`.
function drawStrip(id, from, to, marks) {
  const place = (x) => clamp((x - from) / (to - from || 1), 0, 1);
  const at = (x) => `${(100 * place(x)).toFixed(2)}%`;
  const side = (x) => (place(x) < 0.15 ? "first" : place(x) > 0.85 ? "last" : ""); // text stays inside
  const box = byId(id);
  for (const mark of marks) {
    if (![mark.at, mark.to ?? 0].every(isNumber)) continue;
    const style = mark.to === undefined ? `left:${at(mark.at)}` : `left:${at(mark.at)};right:calc(100% - ${at(mark.to)})`;
    box.append(el("i", { class: mark.kind, style }));
    if (mark.text) box.append(el("span", { class: side(mark.at), style: `left:${at(mark.at)}` }, mark.text));
  }
}

// Labels of a strip that would run into each other take a second line.
function spreadLabels() {
  for (const box of document.querySelectorAll(".strip")) {
    const labels = [...box.querySelectorAll("span")];
    labels.forEach((label) => label.classList.remove("under"));
    const edges = labels.map((label) => label.getBoundingClientRect()).map((r, i) => ({ label: labels[i], left: r.left, right: r.right }));
    edges.sort((a, b) => a.left - b.left);
    let last = -Infinity;
    for (const { label, left, right } of edges) {
      if (left < last + 6) label.classList.add("under");
      else last = right;
    }
    box.classList.toggle("two", !!box.querySelector(".under"));
  }
}

function drawStrips() {
  const { low, high, routed, auc } = data;
  for (const [id, name, text] of [["tile-ap", "ap", apText], ["tile-gmacs", "gmacs", amount]]) {
    const from = Math.min(low[name], routed[name]), to = Math.max(high[name], routed[name]);
    drawStrip(id, from, to, [
      { kind: "bar", at: Math.min(low[name], routed[name]), to: routed[name] },
      { kind: "dot low", at: low[name], text: `low ${text(low[name])}` },
      { kind: "dot high", at: high[name], text: `high ${text(high[name])}` },
      { kind: "dot", at: routed[name] },
    ]);
  }
  const random = curveNamed("random").auc, oracle = curveNamed("oracle").auc;
  const all = [auc.router, random - 2 * auc.sd, oracle].filter(isNumber);
  // A very wide interval would squeeze the rest to a point: it is cut, and an arrow says so.
  const [lower, upper] = auc.ci.every(isNumber) ? auc.ci : [NaN, NaN];
  if (isNumber(lower)) all.push(Math.max(0, lower), Math.min(1.2, upper));
  const from = Math.min(0.4, ...all), to = Math.max(0.8, ...all);
  drawStrip("tile-auc", from, to, [
    { kind: "band", at: random - auc.sd, to: random + auc.sd },
    { kind: "tick", at: random, text: "random" },
    { kind: "tick oracle", at: oracle, text: "oracle" },
    { kind: "bar", at: clamp(lower, from, to), to: clamp(upper, from, to) },
    ...(lower < from ? [{ kind: "cut left", at: from }] : []),
    ...(upper > to ? [{ kind: "cut right", at: to }] : []),
    { kind: "dot", at: auc.router },
  ]);
  if (lower < from || upper > to) byId("tile-auc").after(el("p", { class: "detail" }, "◂ ▸ the interval goes on beyond this line"));
}
