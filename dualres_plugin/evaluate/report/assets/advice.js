// Which sizes at which budget: the way and the step along it are the state, everything follows.
const ways = data.ways, lines = data.curves;
const slider = byId("step");
let way = data.start.way, step = data.start.step;
const current = () => ways[way].steps[step];
// The largest size has the colour of high, the smallest that of low.
const rank = (size) => 1 - data.sizes.indexOf(size) / Math.max(1, data.sizes.length - 1);
const colour = (size) => `color-mix(in srgb, var(--high) ${(100 * rank(size)).toFixed(0)}%, var(--low))`;
const points = (x) => signed(x, 1).replace(/^[+−](0.0)$/, "±$1");
const shortSpan = ([, low, high]) => (isNumber(low) ? `${points(low)} to ${points(high)}` : "no interval");

class Chart {
  constructor(box) {
    this.box = box;
    box.addEventListener("pointerdown", (event) => { if (event.button === 0) this.pick(event); });
    box.addEventListener("pointermove", (event) => { if (event.buttons & 1) this.pick(event); });
  }

  pick(event) {
    const x = event.clientX - this.box.getBoundingClientRect().left;
    const off = (s) => Math.abs(this.x(s.cost) - x);
    const steps = ways[way].steps;
    show(way, steps.reduce((best, s, i) => (off(s) < off(steps[best]) ? i : best), 0));
  }

  draw() {
    const width = this.box.clientWidth, height = clamp(width * 0.5, 280, 430);
    this.left = 40; this.right = width - 14; this.top = 26; this.bottom = height - 44;
    const all = [...lines.flatMap((c) => c.points), ...ways.flatMap((w) => w.steps.map((s) => [s.cost, s.ap]))];
    const costs = all.map((p) => p[0]), aps = all.map((p) => p[1]);
    const side = 0.03 * (Math.max(...costs) - Math.min(...costs)) || 0.1;
    const room = 0.07 * (Math.max(...aps) - Math.min(...aps)) || 0.01;
    this.x0 = Math.min(...costs) - side; this.x1 = Math.max(...costs) + side;
    this.y0 = Math.min(...aps) - room; this.y1 = Math.max(...aps) + room;
    const root = svg("svg", { height, role: "img", "aria-label": `AP against ${data.unit} per image for each way` });
    for (const t of ticks(100 * this.y0, 100 * this.y1, 6)) {
      const y = this.y(t / 100);
      root.append(svg("line", { class: "grid", x1: this.left, x2: this.right, y1: y, y2: y }));
      root.append(svg("text", { x: this.left - 7, y: y + 4, "text-anchor": "end" }, String(t)));
    }
    for (const t of ticks(this.x0, this.x1, width < 560 ? 4 : 8)) {
      root.append(svg("text", { x: this.x(t), y: this.bottom + 18, "text-anchor": "middle" }, String(t)));
    }
    root.append(svg("line", { class: "grid", x1: this.left, x2: this.right, y1: this.bottom, y2: this.bottom }));
    root.append(svg("text", { x: this.right, y: this.bottom + 36, "text-anchor": "end" }, `${data.unit} per image`));
    root.append(svg("text", { x: this.left - 28, y: 12 }, "AP"));
    for (const c of lines) {
      const d = c.points.map((p, i) => `${i ? "L" : "M"}${this.x(p[0]).toFixed(1)} ${this.y(p[1]).toFixed(1)}`).join("");
      root.append(svg("path", { class: `curve ${c.kind}`, d }));
      if (c.kind.startsWith("fixed")) c.points.forEach((p) => root.append(svg("circle", { class: `stop ${c.kind}`, cx: this.x(p[0]), cy: this.y(p[1]), r: 3.5 })));
    }
    const advised = ways[data.start.way].steps[data.start.step];
    root.append(svg("circle", { class: "advised", cx: this.x(advised.cost), cy: this.y(advised.ap), r: 12 }));
    this.guides = svg("path", { class: "guide", fill: "none" });
    this.marker = svg("circle", { class: "point now", r: 8 });
    this.label = svg("text", { class: "name now" });
    root.append(this.guides, this.marker, this.label);
    this.box.replaceChildren(root);
    this.move();
  }

  x(cost) { return this.left + ((cost - this.x0) / (this.x1 - this.x0)) * (this.right - this.left); }
  y(ap) { return this.bottom - ((ap - this.y0) / (this.y1 - this.y0)) * (this.bottom - this.top); }

  move() {
    const x = this.x(current().cost), y = this.y(current().ap);
    fill(this.marker, { cx: x, cy: y }, []);
    fill(this.guides, { d: `M${this.left} ${y}H${x}V${this.bottom}` }, []);
    const end = x > this.left + 0.8 * (this.right - this.left);
    fill(this.label, { x: x + (end ? -13 : 13), y: y + 19, "text-anchor": end ? "end" : "start" }, []);
    this.label.textContent = apText(current().ap);
  }
}

function show(newWay, newStep) {
  way = newWay;
  step = clamp(newStep, 0, ways[way].steps.length - 1);
  const now = current(), saved = 1 - now.cost / data.largest.cost;
  slider.max = ways[way].steps.length - 1;
  slider.value = step;
  slider.setAttribute("aria-valuetext", `${amount(now.cost)} ${data.unit}, AP ${apText(now.ap)}`);
  byId(`way-${way}`).checked = true;
  byId("now-cost").textContent = amount(now.cost);
  byId("now-ap").textContent = apText(now.ap);
  byId("saved-name").textContent = Math.round(100 * saved) < 0 ? "added" : "saved";
  byId("now-saved").textContent = percent(Math.abs(saved));
  for (const [id, found] of [["now-fixed", now.fixed], ["now-high", now.high]]) {
    byId(id).replaceChildren(points(found[0]), el("small", {}, shortSpan(found)));
  }
  chart.move();
  showLadder(now);
  showPhotos(now);
}

function showLadder(now) {
  const limit = (x) => x.toFixed(2).replace("-", "−");
  const range = (i) => {
    if (now.sizes.length === 1) return "any";
    if (i === 0) return `above ${limit(now.thresholds[0])}`;
    if (i === now.sizes.length - 1) return `up to ${limit(now.thresholds[i - 1])}`;
    return `${limit(now.thresholds[i])} to ${limit(now.thresholds[i - 1])}`;
  };
  byId("mix").replaceChildren(...now.sizes.map((size, i) => el("i", { style: `width:${100 * now.shares[i]}%;background:${colour(size)}` })));
  byId("mix").setAttribute("aria-label", now.sizes.map((size, i) => `${percent(now.shares[i])} at ${size} px`).join(", "));
  byId("sizes").tBodies[0].replaceChildren(...now.sizes.map((size, i) => {
    const dot = el("i", { class: "swatch", style: `background:${colour(size)}` });
    return el("tr", {}, el("th", { scope: "row" }, dot, `${size} px`), el("td", {}, range(i)), el("td", {}, percent(now.shares[i])));
  }));
  const against = (found, what) => `${points(found[0])} AP (95 % interval ${shortSpan(found)}) ${what}`;
  byId("says").textContent = now.fixed[0] === 0 && now.sizes.length === 1
    ? `${against(now.high, "to the largest size")}.`
    : `${against(now.fixed, "to one size at the same cost")}, ${against(now.high, "to the largest size")}.`;
  byId("command").textContent = now.sizes.length === 1 ? `size ${now.sizes[0]}, no router` : now.command;
}

function photo(image, size) {
  const node = svg("svg", { viewBox: `0 0 ${image.w} ${image.h}`, "aria-hidden": "true" });
  node.append(svg("image", { href: image.u, width: image.w, height: image.h, preserveAspectRatio: "none" }));
  const box = (x0, y0, x1, y1, kind) => {
    const place = { x: x0, y: y0, width: Math.max(1, x1 - x0), height: Math.max(1, y1 - y0), rx: 2 };
    node.append(svg("rect", { ...place, class: "halo" }), svg("rect", { ...place, class: `box ${kind}` }));
  };
  const { m, b } = image.p[size];
  for (let i = 0; i < m.length; i += 4) box(...m.slice(i, i + 4), "missed");
  for (let i = b.length - 5; i >= 0; i -= 5) box(...b.slice(i, i + 4), ["wrong", "right", "neutral"][b[i + 4]]);
  return node;
}

function showPhotos(now) {
  const place = (image) => now.thresholds.filter((limit) => image.s <= limit).length;
  byId("groups").replaceChildren(...now.sizes.flatMap((size, i) => {
    const here = data.images.filter((image) => place(image) === i).slice(0, data.group);
    const dot = el("i", { class: "swatch", style: `background:${colour(size)}` });
    const title = el("h3", {}, dot, `${size} px`, el("span", { class: "soft" }, ` ${percent(now.shares[i])} of the photos`));
    const cards = here.map((image) => {
      const text = el("span", { class: "text" }, image.n, el("span", { class: "place" }, `score ${signed(image.s)}`));
      return el("div", { class: "card still", "data-size": size }, photo(image, size), text);
    });
    return here.length ? [title, el("div", { class: "cards" }, ...cards)] : [title, el("p", { class: "soft" }, "No photo of this page.")];
  }));
}

function setUp() {
  ways.forEach((w, i) => {
    const radio = el("input", { type: "radio", name: "way", id: `way-${i}`, value: i });
    // Another way, at about the same cost.
    radio.addEventListener("change", () => {
      const cost = current().cost, off = (s) => Math.abs(s.cost - cost);
      show(i, w.steps.reduce((best, s, k) => (off(s) < off(w.steps[best]) ? k : best), 0));
    });
    byId("ways").append(el("label", {}, radio, el("span", {}, w.name)));
  });
  for (const c of lines) {
    const line = svg("svg", { viewBox: "0 0 30 8", "aria-hidden": "true" }, svg("path", { class: `curve ${c.kind}`, d: "M0 4H30" }));
    byId("legend").append(el("li", {}, line, c.name));
  }
  byId("legend").append(el("li", {}, svg("svg", { viewBox: "0 0 30 26", "aria-hidden": "true", class: "ring" }, svg("circle", { class: "advised", cx: 15, cy: 13, r: 10 })), "the advice"));
  slider.addEventListener("input", () => show(way, +slider.value));
  byId("reset").addEventListener("click", () => show(data.start.way, data.start.step));
  byId("gallery").hidden = !data.images.length;
}

setUpTheme();
setUp();
const chart = new Chart(byId("curve"));
let drawnWidth = 0;
function drawChart() {
  if (innerWidth === drawnWidth) return;
  drawnWidth = innerWidth;
  chart.draw();
}
drawChart();
addEventListener("resize", drawChart);
show(way, step);
