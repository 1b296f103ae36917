// Cards of images, which follow the budget, and the viewer that shows low beside high.
const images = data.images;
const imageOfRank = new Map(images.map((image) => [image.r, image]));
const className = (id) => data.classes[id] ?? `class ${id}`;
const VERDICTS = ["wrong", "right", "neutral"];

// Boxes come as flat lists; seven numbers each.
function* rows(flat) {
  for (let i = 0; i < flat.length; i += 7) yield flat.slice(i, i + 7);
}

function boxNodes([x0, y0, x1, y1], kind) {
  const place = { x: x0, y: y0, width: Math.max(1, x1 - x0), height: Math.max(1, y1 - y0), rx: 2 };
  return [svg("rect", { ...place, class: "halo" }), svg("rect", { ...place, class: `box ${kind}` })];
}

// A label goes above its box, inside or below it, to the left or the right: where it covers the least of the labels so
// far, as drawing.free_place in Python. Objects begin below, so that they and detections keep apart.
function tagNode([x0, y0, x1, y1], text, image, taken, below) {
  const size = Math.max(image.w, image.h) / 36;
  const width = 0.58 * size * text.length, height = 1.15 * size; // about what the font takes
  const tops = below ? [y1, y1 - height, y0 - height, y0] : [y0 - height, y0, y1, y1 - height];
  const places = [x0 + 2, x1 - width - 2].flatMap((x) => tops.map((y) => {
    const left = clamp(x, 0, Math.max(0, image.w - width)), top = clamp(y, 0, image.h - height);
    const area = [left, top, left + width, top + height];
    return { area, covered: taken.reduce((sum, other) => sum + shared(area, other), 0) };
  }));
  const { area } = places.reduce((best, place) => (place.covered < best.covered ? place : best));
  taken.push(area);
  return svg("text", { class: "tag", x: area[0], y: area[1] + 0.88 * size, "font-size": size }, text);
}

// The area that two boxes share.
function shared(a, b) {
  const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return w > 0 && h > 0 ? w * h : 0;
}

// What is drawn over an image: "lo" and "hi" with missed objects, "truth" the labels alone.
function overlay(image, view, tagged) {
  const group = svg("g", {}), tags = [], taken = [];
  for (const row of rows(image.t)) {
    const seen = view === "lo" ? row[5] : row[6];
    if (view !== "truth" && seen) continue;
    group.append(...boxNodes(row, view === "truth" ? "truth" : "missed"));
    if (tagged) tags.push(tagNode(row, className(row[4]), image, taken, true));
  }
  if (view !== "truth") {
    const found = [...rows(image[view])]; // highest score first
    if (tagged) found.forEach((row) => tags.push(tagNode(row, `${className(row[4])} ${(row[5] / 100).toFixed(2)}`, image, taken, false)));
    for (const row of found.reverse()) group.append(...boxNodes(row, VERDICTS[row[6]])); // the surest on top
  }
  group.append(...tags);
  return group;
}

function pictureNode(image, view, tagged) {
  const photo = svg("image", { href: image.u, width: image.w, height: image.h, preserveAspectRatio: "none" });
  return svg("svg", { viewBox: `0 0 ${image.w} ${image.h}`, "aria-hidden": "true" }, photo, overlay(image, view, tagged));
}

function effectNodes(image) {
  const [low, high] = image.a;
  if (!isNumber(low)) return ["no labelled objects"];
  const gain = 100 * (high - low);
  const sign = gain > 100 * SAME ? "up" : gain < -100 * SAME ? "down" : "soft";
  return [`AP ${(100 * low).toFixed(0)} → ${(100 * high).toFixed(0)} `, el("span", { class: sign }, signed(gain, 0).replace(/^[+−]0$/, "±0"))];
}

const routeOf = (image, atHigh) => (image.r < atHigh ? "high" : "low");

class Card {
  constructor(image, open) {
    this.image = image;
    this.picture = pictureNode(image, "lo", false);
    this.chip = el("span", {});
    const place = el("span", { class: "place" }, `score ${signed(data.scores[image.r])}`);
    const text = el("span", { class: "text" }, this.chip, place, el("span", { class: "effect" }, ...effectNodes(image)));
    this.node = el("button", { type: "button", class: "card", "data-rank": image.r }, this.picture, text);
    this.node.addEventListener("click", open);
  }

  show(atHigh, view) {
    const route = routeOf(this.image, atHigh);
    const drawn = view === "routed" ? (route === "high" ? "hi" : "lo") : view;
    if (this.route !== route) {
      this.route = route;
      this.chip.className = `chip ${route}`;
      this.chip.textContent = route;
      this.node.dataset.route = route;
      this.node.setAttribute("aria-label", `${this.image.n}, goes ${route}, score ${signed(data.scores[this.image.r])}. Show low beside high.`);
    }
    if (this.drawn !== drawn) {
      this.drawn = drawn;
      this.node.dataset.drawn = drawn;
      this.picture.lastChild.replaceWith(overlay(this.image, drawn, false));
    }
  }
}

class Group {
  constructor(box, choose, viewer) {
    this.box = box;
    this.choose = choose;
    this.viewer = viewer;
    this.cards = new Map();
    this.shown = [];
  }

  update(atHigh, view) {
    const chosen = this.choose(atHigh);
    const cards = chosen.map((image, i) => this.card(image));
    if (chosen.some((image, i) => image !== this.shown[i]) || chosen.length !== this.shown.length) {
      this.shown = chosen;
      this.box.replaceChildren(...cards.map((card) => card.node));
    }
    for (const card of cards) card.show(atHigh, view);
  }

  card(image) {
    if (!this.cards.has(image)) {
      this.cards.set(image, new Card(image, () => this.viewer.open(this.shown, this.shown.indexOf(image))));
    }
    return this.cards.get(image);
  }
}

// The images nearest to the threshold, half of them on each side of it.
function atBorder(atHigh) {
  const size = Math.min(data.group, images.length);
  const first = images.findIndex((image) => image.r >= atHigh);
  const middle = first < 0 ? images.length : first;
  const from = clamp(middle - Math.floor(size / 2), 0, images.length - size);
  return images.slice(from, from + size);
}

// Ranks at low that lose AP by it, worst first: as gallery.costliest in Python.
function losers(atHigh) {
  const ranks = [];
  for (let rank = atHigh; rank < data.n; rank++) if (data.gains[rank] > SAME) ranks.push(rank);
  return ranks.sort((a, b) => data.gains[b] - data.gains[a] || a - b);
}

function sayHurts(atHigh) {
  const lost = losers(atHigh).length, low = data.n - atHigh;
  byId("hurts-says").textContent = !low
    ? "Every image goes high at this budget: nothing can be lost."
    : `${lost} of the ${plural(low, "image")} at low would have a better AP at high. These lose most.`;
}

class Viewer {
  constructor(dialog) {
    this.dialog = dialog;
    this.panes = [...dialog.querySelectorAll("figure")];
    byId("viewer-close").addEventListener("click", () => dialog.close());
    byId("viewer-back").addEventListener("click", () => this.step(-1));
    byId("viewer-next").addEventListener("click", () => this.step(1));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.step(-1);
      if (event.key === "ArrowRight") this.step(1);
    });
  }

  open(list, index) {
    this.list = list;
    this.index = index;
    this.draw();
    this.dialog.showModal();
  }

  step(by) {
    this.index = clamp(this.index + by, 0, this.list.length - 1);
    this.draw();
  }

  draw() {
    const image = this.list[this.index], route = routeOf(image, this.atHigh);
    byId("viewer-name").textContent = image.n;
    byId("viewer-says").textContent = `score ${signed(data.scores[image.r])}, place ${image.r + 1} of ${data.n}, ${plural(image.t.length / 7, "labelled object")}`;
    byId("viewer-place").textContent = `${this.index + 1} of ${this.list.length}`;
    byId("viewer-back").disabled = this.index === 0;
    byId("viewer-next").disabled = this.index === this.list.length - 1;
    [["lo", "low"], ["hi", "high"]].forEach(([view, name], i) => {
      const taken = name === route ? " the route at this budget" : "";
      const ap = isNumber(image.a[i]) ? `AP ${(100 * image.a[i]).toFixed(0)}` : "";
      const caption = el("figcaption", {}, el("span", { class: `chip ${name}` }, name), ` ${ap}`, el("span", { class: "soft" }, taken));
      this.panes[i].replaceChildren(caption, pictureNode(image, view, true));
    });
  }
}
