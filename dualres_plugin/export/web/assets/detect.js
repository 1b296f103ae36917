"use strict";
// From a photo to the graph's input and from its output to boxes: what dualres_plugin/runtime/{photo,boxes}.py do in
// Python. Pure functions; `card` is the metadata of the exported file.

const ROUND = {
  even: x => { const r = Math.round(x); return Math.abs(x % 1) === 0.5 && r % 2 ? r - 1 : r; },
  up: x => Math.floor(x + 0.5),
  down: x => Math.trunc(x),
};

/** Where a photo of [height, width] lies in its frame: sizes [height, width], corner [x, y]. */
function letterbox(original, card) {
  const how = card.preprocess, box = card.static || [card.high, card.high];
  if (how.kind === "original") return { inner: original, outer: original, corner: [0, 0] };
  const factor = Math.min(box[0] / original[0], box[1] / original[1]);
  const inner = original.map(side => Math.max(1, ROUND[how.rounding](side * factor)));
  let spare = inner.map((side, axis) => box[axis] - side);
  if (how.multiple && !card.static) spare = spare.map(s => ((s % how.multiple) + how.multiple) % how.multiple);
  const outer = inner.map((side, axis) => side + spare[axis]);
  const half = s => ROUND.even(s / 2 - 0.1);  // an odd pixel goes to the end
  return { inner, outer, corner: how.centre ? [half(spare[1]), half(spare[0])] : [0, 0] };
}

/** Bilinear resize of RGBA bytes, with the half-pixel centres of cv2; RGB bytes come back. */
function resizeRGB(rgba, height, width, newHeight, newWidth) {
  const taps = (from, to) => Array.from({ length: to }, (_, i) => {
    const at = (i + 0.5) * (from / to) - 0.5, low = Math.floor(at), clamp = v => Math.min(from - 1, Math.max(0, v));
    return [clamp(low), clamp(low + 1), at - low];
  });
  const columns = taps(width, newWidth), out = new Uint8ClampedArray(newHeight * newWidth * 3);
  taps(height, newHeight).forEach(([y0, y1, v], y) => {
    columns.forEach(([x0, x1, u], x) => {
      const a = 4 * (y0 * width + x0), b = 4 * (y0 * width + x1), c = 4 * (y1 * width + x0), d = 4 * (y1 * width + x1);
      for (let k = 0; k < 3; k++) {
        const top = rgba[a + k] * (1 - u) + rgba[b + k] * u, bottom = rgba[c + k] * (1 - u) + rgba[d + k] * u;
        out[3 * (y * newWidth + x) + k] = Math.round(top * (1 - v) + bottom * v);
      }
    });
  });
  return out;
}

/** RGB bytes as the router's `thumbnail`, (1, 3, size, size) in [0, 1]: antialiased bilinear, one axis after the other. */
function makeThumbnail(rgb, height, width, size) {
  const taps = from => Array.from({ length: size }, (_, i) => {
    const ratio = from / size, reach = Math.max(ratio, 1), centre = (i + 0.5) * ratio;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), last = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => Math.max(0, 1 - Math.abs(first + j + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, weights.map(w => w / sum)];
  });
  const narrow = new Float32Array(3 * height * size), out = new Float32Array(3 * size * size);
  taps(width).forEach(([first, weights], x) => {
    for (let y = 0; y < height; y++)
      for (let k = 0; k < 3; k++)
        narrow[(k * height + y) * size + x] = weights.reduce((sum, w, j) => sum + w * rgb[3 * (y * width + first + j) + k], 0);
  });
  taps(height).forEach(([first, weights], y) => {
    for (let x = 0; x < size; x++)
      for (let k = 0; k < 3; k++) {
        const sum = weights.reduce((sum, w, j) => sum + w * narrow[(k * height + first + j) * size + x], 0);
        out[(k * size + y) * size + x] = sum / 255;
      }
  });
  return out;
}

/** The graph's `images`, (1, 3, H, W) in [0, 1], where the photo lies in it, and the way back to its pixels. */
function makeFrame(photo, card) {
  const original = [photo.height, photo.width], { inner, outer, corner } = letterbox(original, card);
  const [h, w] = outer, plane = h * w, images = new Float32Array(3 * plane);
  const rgb = resizeRGB(photo.data, photo.height, photo.width, inner[0], inner[1]);
  for (let k = 0; k < 3; k++) {
    images.fill(card.preprocess.fill[k], k * plane, (k + 1) * plane);
    for (let y = 0; y < inner[0]; y++)
      for (let x = 0; x < inner[1]; x++)
        images[k * plane + (y + corner[1]) * w + x + corner[0]] = rgb[3 * (y * inner[1] + x) + k] / 255;
  }
  const whole = Math.min(outer[0] / original[0], outer[1] / original[1]);
  const gain = card.preprocess.gain === "axis" ? [inner[1] / original[1], inner[0] / original[0]] : [whole, whole];
  return {
    images, shape: [1, 3, h, w], original, gain, corner,
    thumbnail: card.thumbnail ? makeThumbnail(rgb, inner[0], inner[1], card.thumbnail) : null,
    content: [corner[0], corner[1], corner[0] + inner[1], corner[1] + inner[0]],
  };
}

/** Rows [x0, y0, x1, y1, score, label] in pixels of the frame, before overlaps are removed. */
function candidates(data, dims, how, conf) {
  const found = [];
  if (how.layout === "rows") {
    for (let i = 0; i < dims[1]; i++) {
      const row = Array.from(data.subarray(6 * i, 6 * i + 6));
      if (row[4] > conf) found.push(row);
    }
    return found;
  }
  const [, channels, anchors] = dims;
  for (let i = 0; i < anchors; i++) {
    const labels = [];
    let best = -1, top = -Infinity;
    for (let k = 4; k < channels; k++) {
      const score = data[k * anchors + i];
      if (how.multi_label && score > conf) labels.push(k);
      if (score > top) { top = score; best = k; }
    }
    if (!how.multi_label && top > conf) labels.push(best);
    const [a, b, c, d] = [0, 1, 2, 3].map(k => data[k * anchors + i]);
    const box = how.boxes === "xywh" ? [a - c / 2, b - d / 2, a + c / 2, b + d / 2] : [a, b, c, d];
    for (const k of labels) found.push([...box, data[k * anchors + i], k - 4]);
  }
  return found.sort((p, q) => q[4] - p[4]).slice(0, how.candidates);
}

/** Greedy non-maximum suppression within each class; rows come best first. */
function suppress(rows, iou, limit) {
  const kept = [], area = r => (r[2] - r[0]) * (r[3] - r[1]);
  for (const row of rows) {
    if (kept.length === limit) break;
    const covered = kept.some(other => {
      if (other[5] !== row[5]) return false;
      const w = Math.min(row[2], other[2]) - Math.max(row[0], other[0]);
      const h = Math.min(row[3], other[3]) - Math.max(row[1], other[1]);
      const shared = Math.max(w, 0) * Math.max(h, 0);
      return shared / (area(row) + area(other) - shared) > iou;
    });
    if (!covered) kept.push(row);
  }
  return kept;
}

/** The graph's `detections` as [{box, score, label}] in pixels of the photo, best first. */
function detections(data, dims, frame, card, conf) {
  const how = card.postprocess, [x, y] = frame.corner;
  let rows = candidates(data, dims, how, conf);
  const edges = {
    content: [x, y, x + frame.original[1] * frame.gain[0], y + frame.original[0] * frame.gain[1]],
    frame: [0, 0, frame.shape[3], frame.shape[2]],
  }[how.clip];
  const within = (v, low, high) => Math.min(high, Math.max(low, v));
  if (edges) rows = rows.map(r => [...r.slice(0, 4).map((v, i) => within(v, edges[i % 2], edges[2 + i % 2])), r[4], r[5]]);
  if (how.drop_empty) rows = rows.filter(r => r[2] > r[0] && r[3] > r[1]);
  rows = rows.sort((p, q) => q[4] - p[4]);
  rows = how.nms ? suppress(rows, how.iou, how.max_det) : rows.slice(0, how.max_det);
  return rows.map(r => ({
    box: r.slice(0, 4).map((v, i) => {
      const moved = (v - frame.corner[i % 2]) / frame.gain[i % 2];
      return how.clip === "photo" ? within(moved, 0, frame.original[1 - i % 2]) : moved;
    }),
    score: r[4], label: r[5],
  }));
}

/** The names of the sizes, largest first. */
function routeNames(card) {
  return card.several ? card.several.sizes.map(String) : ["high", "low"];
}
