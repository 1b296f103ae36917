"use strict";
// What runs the model: onnxruntime-web on WebGPU or on WebAssembly. Each lies in a script of this folder and is loaded
// when it is wanted.

const ENGINES = { webgpu: "WebGPU", wasm: "WebAssembly" };

/** The bytes that build.py packed: base64 of gzip. */
async function unpack(text) {
  const packed = atob(text), zipped = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) zipped[i] = packed.charCodeAt(i);
  const plain = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}

function loadScript(source) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    Object.assign(script, { src: source, onload: done, onerror: () => failed(Error(`${source} is missing`)) });
    document.head.append(script);
  });
}

/** {kind, session, Tensor} on "webgpu" or "wasm". */
async function makeEngine(kind) {
  await loadScript(`runtime-${kind}.js`);
  const runtime = ort, { glue, wasm } = DUALRES.runtime;  // the next script makes its own
  runtime.env.wasm.numThreads = 1;  // more need headers that a file cannot have
  runtime.env.wasm.wasmBinary = (await unpack(wasm)).buffer;
  const module = new Blob([await unpack(glue)], { type: "text/javascript" });
  runtime.env.wasm.wasmPaths = { mjs: URL.createObjectURL(module) };
  const provider = kind === "webgpu" ? { name: "webgpu", forceCpuNodeNames: DUALRES.onCPU } : "wasm";
  const session = await runtime.InferenceSession.create(
    await unpack(DUALRES.onnx), { executionProviders: [provider], logSeverityLevel: 3 });
  return { kind, session, Tensor: runtime.Tensor };
}

/** "hardware", "software" (slower than WebAssembly) or null: what WebGPU would run on here. */
async function findGPU() {
  try {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter && ((adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter) ? "software" : "hardware");
  } catch {
    return null;
  }
}

/** One photo through the router and the detector. */
async function detect(engine, photo, card, limits, conf) {
  const { session, Tensor } = engine, frame = makeFrame(photo, card), side = card.thumbnail;
  const feeds = { images: new Tensor("float32", frame.images, frame.shape) };
  if (side) feeds.thumbnail = new Tensor("float32", frame.thumbnail, [1, 3, side, side]);
  else feeds.content = new Tensor("int64", BigInt64Array.from(frame.content.map(BigInt)), [4]);
  if (card.several) feeds.thresholds = new Tensor("float32", Float32Array.from(limits), [limits.length]);
  else feeds.threshold = new Tensor("float32", Float32Array.from(limits), []);
  const began = performance.now(), out = await session.run(feeds), ms = performance.now() - began;
  const chosen = Number((card.several ? out.step : out.route).data[0]), step = card.several ? chosen : 1 - chosen;
  const found = detections(out.detections.data, out.detections.dims, frame, card, conf);
  return { found, step, route: routeNames(card)[step], score: out.score.data[0], ms, engine: engine.kind };
}
