"use strict";
// The page: a photo or the camera in, boxes, size, score and milliseconds out. The model and its runtime lie in the
// page's own scripts, so nothing is fetched: it works from a file, offline.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"];
const BRIGHT = ["#F0E442", "#56B4E9", "#E69F00", "#CC79A7"];  // of these: black letters
const TALLEST = 0.82;  // share of the window's height for the photo

const el = id => document.getElementById(id);
const card = DUALRES.card, names = routeNames(card), engines = {};
const state = {
  engine: null, wanted: "", patience: 30,  // seconds for a trial on WebGPU
  photo: null, name: "", busy: false, again: false, camera: null, last: null,
};
const say = (text, tone = "soft") => { Object.assign(el("state"), { textContent: text, className: tone }); };

// -- what runs it -------------------------------------------------------------------------------------------------

async function start() {
  const gpu = await findGPU();
  el("engines").hidden = !gpu;
  await use(gpu === "hardware" ? "webgpu" : "wasm");
  if (!state.photo) say("Ready. Everything runs in this page; no photo leaves it.");
  document.body.dataset.ready = "yes";
  run();
}

/** Run on `kind` from now on; where WebGPU does not work, on WebAssembly. */
async function use(kind) {
  state.wanted = kind;
  el("engine").textContent = `starting ${ENGINES[kind]} …`;
  engines[kind] ??= makeEngine(kind).then(tried);  // a promise: made once, however often the switch moves
  let engine;
  try {
    engine = await engines[kind];
  } catch (error) {
    if (kind === "wasm") throw error;
    return giveUpGPU();
  }
  if (state.wanted !== kind) return;  // the switch moved on
  state.engine = engine;
  el("engine").textContent = ENGINES[kind];
  radio(kind).checked = true;
}

function giveUpGPU() {
  radio("webgpu").disabled = true;
  return use("wasm");
}

const noEngine = error => say(`The model does not load here: ${error.message || error}`, "bad");

/** An engine that has run every size: WebGPU says only then what it cannot do, and builds its shaders. */
async function tried(engine) {
  if (engine.kind !== "webgpu") return engine;
  const late = new Promise((_, failed) => setTimeout(() => failed(Error("no answer")), 1000 * state.patience));
  const grey = new ImageData(card.high, card.high);
  for (let i = 0; i < names.length; i++) {
    const limits = names.slice(1).map((_, j) => (j < i ? Infinity : -Infinity));
    await Promise.race([detect(engine, grey, card, limits, 1), late]);
  }
  return engine;
}

const radio = kind => el("engines").querySelector(`[value=${kind}]`);

// -- the operating point ------------------------------------------------------------------------------------------

const sizeName = name => (card.several ? `${name} px` : name);
const defaults = () => (card.several ? card.several.thresholds : [card.threshold]).map(Number);

function buildSliders() {
  const scores = card.quantiles.length ? card.quantiles : [-3, 3];
  const low = scores[0], high = scores[scores.length - 1], room = 0.02 * (high - low) || 1;
  el("thresholds").replaceChildren();
  defaults().forEach((value, i) => {
    const row = document.createElement("label");
    row.innerHTML = `<span></span><input type="range" step="any"><output></output>`;
    const [title, input] = row.children;
    title.textContent = `Above it: ${sizeName(names[i])}`;
    Object.assign(input, { min: low - room, max: high + room, name: `threshold${i}` });
    input.value = Math.min(high + room, Math.max(low - room, value));
    input.addEventListener("input", () => { keepOrder(i); show(); run(); });
    el("thresholds").append(row);
  });
  show();
}

const sliders = () => [...el("thresholds").querySelectorAll("input")];
const thresholds = () => sliders().map(input => Number(input.value));

/** Thresholds descend: the one that is moved takes the others along. */
function keepOrder(moved) {
  const inputs = sliders(), value = Number(inputs[moved].value);
  inputs.forEach((input, i) => {
    if (i < moved && Number(input.value) < value) input.value = value;
    if (i > moved && Number(input.value) > value) input.value = value;
  });
}

function shareAbove(threshold) {
  if (!card.quantiles.length) return "";
  const above = card.quantiles.filter(q => q > threshold).length / card.quantiles.length;
  return `, ${Math.round(100 * above)} % above`;
}

/** The value of every slider, in print and for those who listen. */
function show() {
  for (const input of document.querySelectorAll(".sliders input")) {
    const value = Number(input.value), row = input.parentElement;
    const text = input.id === "conf" ? value.toFixed(2) : `${value.toFixed(3)}${shareAbove(value)}`;
    row.querySelector("output").textContent = text;
    input.setAttribute("aria-label", row.querySelector("span").textContent);
    input.setAttribute("aria-valuetext", text);
  }
}

// -- one photo -------------------------------------------------------------------------------------------------------

async function run() {
  if (!state.engine || !state.photo) return;
  state.again = true;
  if (state.busy) return;
  state.busy = true;
  while (state.again) {
    state.again = false;
    const { photo, picture, engine, name } = state;
    try {
      const result = await detect(engine, photo, card, thresholds(), Number(el("conf").value));
      Object.assign(state, { last: result, drawn: picture });
      tell(result, name);
      draw();
    } catch (error) {
      if (engine.kind !== "webgpu") say(`This photo failed: ${error.message || error}`, "bad");
      else await giveUpGPU().then(() => { state.again = true; });
    }
  }
  state.busy = false;
}

/** The photo and its boxes as large as there is room, in the screen's own pixels: letters stay readable. */
function draw() {
  const { drawn: picture, last } = state, canvas = el("canvas"), stage = getComputedStyle(el("stage"));
  const room = el("stage").clientWidth - 2 * parseFloat(stage.paddingLeft), dots = window.devicePixelRatio;
  const scale = dots * Math.min(room / picture.width, TALLEST * window.innerHeight / picture.height);
  canvas.hidden = false;
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  canvas.style.width = `${canvas.width / dots}px`;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  pen.font = `${13 * dots}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  pen.lineWidth = 2 * dots;
  const found = last.found.map(one => ({ ...one, box: one.box.map(v => v * scale) })).reverse();
  for (const { box: [x0, y0, x1, y1], label } of found) {
    pen.strokeStyle = COLOURS[label % COLOURS.length];
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  for (const one of found) writeName(pen, one, dots);  // over every line
}

function writeName(pen, { box: [x0, y0], score, label }, dots) {
  const text = `${card.names[label] ?? label} ${score.toFixed(2)}`, colour = COLOURS[label % COLOURS.length];
  const width = pen.measureText(text).width + 8 * dots, height = 18 * dots;
  const x = Math.max(0, Math.min(x0, pen.canvas.width - width)), y = Math.max(0, y0 - height);
  pen.fillStyle = colour;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = BRIGHT.includes(colour) ? "#000" : "#fff";
  pen.fillText(text, x + 4 * dots, y + height / 2);
}

function tell(result, name) {
  const { found, step, route, score, ms, engine } = result;
  el("result").hidden = false;
  el("empty").hidden = true;
  el("route").textContent = sizeName(route);
  el("route").dataset.step = step;
  el("score").textContent = score.toFixed(3);
  el("ms").textContent = `${ms.toFixed(0)} ms`;
  radio(engine).parentElement.querySelector("output").textContent = `${ms.toFixed(0)} ms`;
  el("objects").textContent = found.length;
  const counts = new Map();
  for (const { label } of found) counts.set(label, (counts.get(label) || 0) + 1);
  const named = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${n} ${card.names[label] ?? label}`);
  el("classes").textContent = named.join(", ") || "nothing above the least confidence";
  el("canvas").setAttribute("aria-label", `${name}: ${el("classes").textContent}`);
}

// -- where photos come from -----------------------------------------------------------------------------------------

/** Take a picture or a frame of the camera as the photo: its pixels for the model, itself to draw. */
function take(picture, width, height, name) {
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  Object.assign(state, { photo: pen.getImageData(0, 0, width, height), picture: canvas, name });
}

async function open(file) {
  stopCamera();
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return say(`"${file.name}" is no picture that this browser can read.`, "bad");
  }
  const { width, height } = picture;
  try {
    take(picture, width, height, file.name);
  } catch {
    return say(`"${file.name}" is too large for this browser: ${width} × ${height}.`, "bad");
  } finally {
    picture.close();
  }
  for (const output of el("engines").querySelectorAll("output")) output.textContent = "";
  say(`${file.name}, ${width} × ${height}`);
  await run();
}

async function startCamera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    const video = document.createElement("video");
    Object.assign(video, { srcObject: stream, playsInline: true, muted: true });
    await video.play();
    state.camera = { stream, video };
  } catch (error) {
    return say(`No camera: ${error.message || error}`, "bad");
  }
  el("camera").textContent = "Stop the camera";
  el("result").ariaLive = "off";  // a voice cannot keep up with it
  say("Camera");
  while (state.camera) {
    const { video } = state.camera;
    take(video, video.videoWidth, video.videoHeight, "Camera");
    await run();
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (!state.camera) return;
  state.camera.stream.getTracks().forEach(track => track.stop());
  state.camera = null;
  el("result").ariaLive = "polite";
  el("camera").textContent = "Use the camera";
}

function listen() {
  el("file").addEventListener("change", event => {
    if (event.target.files[0]) open(event.target.files[0]);
    event.target.value = "";  // the same file again is a change, too
  });
  el("camera").addEventListener("click", () => (state.camera ? stopCamera() : startCamera()));
  el("reset").addEventListener("click", () => { buildSliders(); run(); });
  el("conf").addEventListener("input", () => { show(); run(); });
  el("engines").addEventListener("change", event => use(event.target.value).then(run, noEngine));
  window.addEventListener("resize", () => state.last && draw());
  const stage = el("stage");
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, event => {
      event.preventDefault();
      stage.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
  }
}

el("title").textContent = document.title = DUALRES.title;
const sizesText = card.several ? card.several.sizes.join(", ") : `${card.high} and ${Math.round(card.high * card.scale)}`;
el("about").textContent = `${sizesText} px, ${Object.keys(card.names).length} classes, form ${card.form}`;
el("conf").value = card.postprocess.conf;
buildSliders();
listen();
start().catch(noEngine);
