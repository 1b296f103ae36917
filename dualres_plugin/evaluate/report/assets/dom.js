// Small helpers. Everything that comes from data goes through textContent or attributes, never through HTML.
const SVG = "http://www.w3.org/2000/svg";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers are written as page.py writes them.
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
const percent = (x, digits = 0) => (isNumber(x) ? `${(100 * x).toFixed(digits).replace(/^-(?=[0.]+$)/, "")} %` : "–");
const apText = (x) => (isNumber(x) ? (100 * x).toFixed(1) : "–");
function amount(x) {
  if (!isNumber(x)) return "–";
  return x.toFixed(x >= 100 ? 0 : x >= 10 ? 1 : x >= 1 ? 2 : 3);
}
const signed = (x, digits = 2) => (isNumber(x) ? `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}` : "–");
const clamp = (x, least, most) => Math.min(most, Math.max(least, x));
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// Straight line between sorted points; flat outside them.
function interpolate(xs, ys, x) {
  if (!xs.length) return NaN;
  if (x <= xs[0]) return ys[0];
  for (let i = 1; i < xs.length; i++) {
    if (x <= xs[i]) {
      const step = xs[i] - xs[i - 1];
      return step > 0 ? ys[i - 1] + ((ys[i] - ys[i - 1]) * (x - xs[i - 1])) / step : ys[i];
    }
  }
  return ys[ys.length - 1];
}

// About `count` round numbers between two limits.
function ticks(from, to, count) {
  const rough = (to - from) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough) || 10 * power;
  const found = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

function setUpTheme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null; // follows the system until somebody chooses
  const apply = () => {
    const theme = chosen || (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light theme" : "Dark theme";
  };
  button.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
