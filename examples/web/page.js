"use strict";
// The page: a photo or the camera in, boxes, route, score and milliseconds out. The model and its runtime lie in the
// page's own scripts, so nothing is fetched: it works from a file, offline.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"];
const el = id => document.getElementById(id);
const card = DUALRES.card, names = routeNames(card);
const state = { session: null, photo: null, busy: false, again: false, camera: null, history: [] };

function bytes(base64) {
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

async function load() {
  ort.env.wasm.numThreads = 1;  // more need headers that a file cannot have
  ort.env.wasm.wasmBinary = bytes(DUALRES.wasm).buffer;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([bytes(DUALRES.glue)], { type: "text/javascript" })) };
  state.session = await ort.InferenceSession.create(bytes(DUALRES.onnx), { executionProviders: ["wasm"] });
  DUALRES.onnx = DUALRES.wasm = "";
  el("state").textContent = "Ready. Everything runs in this page; no photo leaves it.";
  document.body.dataset.ready = "yes";
}

// -- the operating point ------------------------------------------------------------------------------------------

function defaults() {
  return (card.several ? card.several.thresholds : [card.threshold]).map(Number);
}

function buildSliders() {
  const scores = card.quantiles.length ? card.quantiles : [-3, 3];
  const low = scores[0], high = scores[scores.length - 1], room = 0.02 * (high - low) || 1;
  defaults().forEach((value, i) => {
    const row = document.createElement("label");
    row.innerHTML = `<span></span><input type="range" step="any"><output></output>`;
    const [title, input, output] = row.children;
    title.textContent = `Above it: ${names[i]}`;
    Object.assign(input, { min: low - room, max: high + room, value, name: `threshold${i}` });
    input.value = Math.min(high + room, Math.max(low - room, value));
    input.addEventListener("input", () => { keepOrder(i); show(); run(); });
    el("thresholds").append(row);
    row.output = output;
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

function show() {
  [...el("thresholds").children].forEach(row => {
    const value = Number(row.querySelector("input").value);
    row.output.textContent = `${value.toFixed(3)}${shareAbove(value)}`;
  });
  el("conf-out").textContent = Number(el("conf").value).toFixed(2);
}

// -- one photo -------------------------------------------------------------------------------------------------------

async function detect(photo) {
  const frame = makeFrame(photo, card), limits = thresholds();
  const feeds = { images: new ort.Tensor("float32", frame.images, frame.shape) }, side = card.thumbnail;
  if (side) feeds.thumbnail = new ort.Tensor("float32", frame.thumbnail, [1, 3, side, side]);
  else feeds.content = new ort.Tensor("int64", BigInt64Array.from(frame.content.map(BigInt)), [4]);
  if (card.several) feeds.thresholds = new ort.Tensor("float32", Float32Array.from(limits), [limits.length]);
  else feeds.threshold = new ort.Tensor("float32", Float32Array.from(limits), []);
  const began = performance.now(), out = await state.session.run(feeds), ms = performance.now() - began;
  const chosen = Number((card.several ? out.step : out.route).data[0]), step = card.several ? chosen : 1 - chosen;
  const found = detections(out.detections.data, out.detections.dims, frame, card, Number(el("conf").value));
  return { found, step, route: names[step], score: out.score.data[0], ms };
}

async function run() {
  if (!state.session || !state.photo) return;
  if (state.busy) { state.again = true; return; }
  state.busy = true;
  try {
    do {
      state.again = false;
      const photo = state.photo, result = await detect(photo);
      draw(photo, result);
      tell(result);
    } while (state.again);
  } catch (error) {
    el("state").textContent = `This photo failed: ${error.message || error}`;
  } finally {
    state.busy = false;
  }
}

function draw(photo, result) {
  const canvas = el("canvas"), pen = canvas.getContext("2d"), unit = Math.max(1, Math.min(photo.width, photo.height) / 240);
  canvas.width = photo.width;
  canvas.height = photo.height;
  pen.putImageData(photo, 0, 0);
  pen.font = `${Math.max(11, 5 * unit + 6)}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  for (const { box: [x0, y0, x1, y1], score, label } of [...result.found].reverse()) {
    const colour = COLOURS[label % COLOURS.length], text = `${card.names[label] ?? label} ${score.toFixed(2)}`;
    const width = pen.measureText(text).width + 6, height = Math.max(11, 5 * unit + 6) + 6;
    const at = [Math.min(x0, Math.max(0, photo.width - width)), Math.max(0, y0 - height)];
    pen.lineWidth = Math.max(2, unit);
    pen.strokeStyle = pen.fillStyle = colour;
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    pen.fillRect(...at, width, height);
    pen.fillStyle = ["#F0E442", "#56B4E9", "#E69F00"].includes(colour) ? "#000" : "#fff";
    pen.fillText(text, at[0] + 3, at[1] + 4);
  }
}

function tell(result) {
  const { found, step, route, score, ms } = result;
  el("result").hidden = false;
  el("empty").hidden = true;
  el("route").textContent = card.several ? `${route} px` : route;
  el("route").dataset.step = step;
  el("score").textContent = score.toFixed(3);
  el("ms").textContent = `${ms.toFixed(0)} ms`;
  el("objects").textContent = found.length;
  const counts = new Map();
  for (const { label } of found) counts.set(label, (counts.get(label) || 0) + 1);
  const named = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${n} ${card.names[label] ?? label}`);
  el("classes").textContent = named.join(", ") || "nothing above the score";
  state.last = result;
}

// -- where photos come from -----------------------------------------------------------------------------------------

async function open(file) {
  stopCamera();
  try {
    const picture = await createImageBitmap(file), canvas = new OffscreenCanvas(picture.width, picture.height);
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0);
    state.photo = pen.getImageData(0, 0, picture.width, picture.height);
  } catch {
    el("state").textContent = `"${file.name}" is no picture that this browser can read.`;
    return;
  }
  el("state").textContent = `${file.name}, ${state.photo.width} × ${state.photo.height}`;
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
    el("state").textContent = `No camera: ${error.message || error}`;
    return;
  }
  el("camera").textContent = "Stop";
  el("state").textContent = "Camera";
  const canvas = new OffscreenCanvas(1, 1);
  while (state.camera) {
    const { video } = state.camera;
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(video, 0, 0);
    state.photo = pen.getImageData(0, 0, canvas.width, canvas.height);
    await run();
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (!state.camera) return;
  state.camera.stream.getTracks().forEach(track => track.stop());
  state.camera = null;
  el("camera").textContent = "Use the camera";
}

function listen() {
  el("file").addEventListener("change", event => event.target.files[0] && open(event.target.files[0]));
  el("camera").addEventListener("click", () => (state.camera ? stopCamera() : startCamera()));
  el("reset").addEventListener("click", () => {
    el("thresholds").replaceChildren();
    buildSliders();
    run();
  });
  el("conf").addEventListener("input", () => { show(); run(); });
  const stage = el("stage");
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, event => {
      event.preventDefault();
      stage.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
  }
}

el("title").textContent = DUALRES.title;
const sizesText = card.several ? card.several.sizes.join(", ") : `${card.high} and ${Math.round(card.high * card.scale)}`;
el("about").textContent = `${sizesText} px, ${Object.keys(card.names).length} classes, form ${card.form}`;
el("conf").value = card.postprocess.conf;
buildSliders();
listen();
load().catch(error => { el("state").textContent = `The model does not load here: ${error.message || error}`; });
