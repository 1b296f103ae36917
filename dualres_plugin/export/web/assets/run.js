"use strict";
// A routed detector in Node: node run.js PHOTO.rgba WIDTH HEIGHT [THRESHOLD ...]
//
//   dualres page yolo11n_dualres.onnx --node --out page
//   cd page && ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node
//   node run.js photo.rgba 640 480
//
// The photo is its bare RGBA bytes, as image packages give them: sharp("photo.jpg").ensureAlpha().raw(). With several
// sizes there are as many thresholds less one, descending; by default those of the file.

const fs = require("node:fs"), path = require("node:path"), vm = require("node:vm");
const ort = require("onnxruntime-node");

vm.runInThisContext(fs.readFileSync(path.join(__dirname, "detect.js"), "utf8"));
const card = JSON.parse(fs.readFileSync(path.join(__dirname, "card.json"), "utf8"));

function inputs(frame, limits) {
  const feeds = { images: new ort.Tensor("float32", frame.images, frame.shape) }, side = card.thumbnail;
  if (side) feeds.thumbnail = new ort.Tensor("float32", frame.thumbnail, [1, 3, side, side]);
  else feeds.content = new ort.Tensor("int64", BigInt64Array.from(frame.content.map(BigInt)), [4]);
  if (card.several) feeds.thresholds = new ort.Tensor("float32", Float32Array.from(limits), [limits.length]);
  else feeds.threshold = new ort.Tensor("float32", Float32Array.from(limits), []);
  return feeds;
}

async function main(file, width, height, ...thresholds) {
  const photo = { data: fs.readFileSync(file), width: Number(width), height: Number(height) };
  if (photo.data.length !== 4 * photo.width * photo.height) throw Error(`${file} is not ${width} x ${height} RGBA.`);
  const session = await ort.InferenceSession.create(path.join(__dirname, "model.onnx"), { logSeverityLevel: 3 });
  const own = card.several ? card.several.thresholds : [card.threshold];
  const frame = makeFrame(photo, card), out = await session.run(inputs(frame, (thresholds.length ? thresholds : own).map(Number)));
  const chosen = Number((card.several ? out.step : out.route).data[0]), step = card.several ? chosen : 1 - chosen;
  const found = detections(out.detections.data, out.detections.dims, frame, card, card.postprocess.conf);
  console.log(JSON.stringify({ route: routeNames(card)[step], score: out.score.data[0], found }));
}

main(...process.argv.slice(2)).catch(error => { console.error(error.message); process.exit(1); });
