// Puts the parts together: one operating point, everything follows it.
const slider = byId("beta");
const chart = new CurveChart(byId("curve"), (i) => show(i));
const histogram = new Histogram(byId("histogram"));
const sizeTable = new SizeTable(byId("sizes"));
const clipTimeline = data.clips ? new ClipTimeline(data.clips) : null;
const viewer = new Viewer(byId("viewer"));
const groups = [];
let current = operatingPoint(data.start);
let view = "routed";

function show(i) {
  current = operatingPoint(clamp(i, 0, router.points.length - 1));
  slider.value = current.i;
  slider.setAttribute("aria-valuetext", `${percent(current.beta)} of the images at high, AP ${apText(current.ap)}`);
  byId("now-beta").textContent = percent(current.beta);
  byId("now-ap").textContent = apText(current.ap);
  byId("now-gmacs").replaceChildren(amount(current.gmacs), el("small", {}, ` (${amount(2 * current.gmacs)})`));
  byId("now-ms").textContent = amount(current.ms);
  byId("now-kept").textContent = percent(current.kept);
  const more = Math.round(100 * current.saved) < 0; // the router costs, and a saving below zero is none
  byId("saved-name").textContent = more ? "added" : "saved";
  byId("now-saved").textContent = percent(Math.abs(current.saved));
  chart.move(current);
  sayCurve(current);
  histogram.move(current);
  showOutcome(current);
  sizeTable.move(current);
  if (clipTimeline) clipTimeline.move(current);
  showImages();
}

function showImages() {
  viewer.atHigh = current.atHigh;
  for (const group of groups) group.update(current.atHigh, view);
  if (images.length) sayHurts(current.atHigh);
}

function setUpImages() {
  if (!images.length) {
    byId("gallery").hidden = byId("hurts").hidden = true;
    return;
  }
  const group = (id, choose) => groups.push(new Group(byId(id), choose, viewer));
  const ends = Math.min(data.group, Math.max(1, Math.floor(images.length / 2)));
  group("highest", () => images.slice(0, ends));
  group("border", atBorder);
  group("lowest", () => images.slice(-ends));
  group("worst", (atHigh) => losers(atHigh).map((r) => imageOfRank.get(r)).filter(Boolean).slice(0, data.group));
  for (const radio of document.querySelectorAll("#view input")) {
    radio.addEventListener("change", () => { view = radio.value; showImages(); });
  }
  if (images.length < data.n) {
    byId("pool").textContent = `The page holds ${images.length} of ${data.n} images: both ends, those that routing hurts most, and an even choice between.`;
  }
}

setUpTheme();
drawLegend();
drawStrips();
byId("now-ms-box").hidden = !data.timings;
slider.max = router.points.length - 1;
slider.addEventListener("input", () => show(+slider.value));
byId("reset").addEventListener("click", () => show(data.start));
setUpImages();
// Charts are drawn in real pixels, so that their text keeps its size in a narrow window.
let drawnWidth = 0;
function drawCharts() {
  if (innerWidth === drawnWidth) return;
  drawnWidth = innerWidth;
  chart.draw();
  histogram.draw();
  if (clipTimeline) clipTimeline.draw();
  spreadLabels();
}
drawCharts();
addEventListener("resize", drawCharts);
show(data.start);
