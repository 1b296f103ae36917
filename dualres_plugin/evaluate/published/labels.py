"""Text beside points without overlaps.

Places are few and fixed, and each label takes the cheapest. Methods that push labels about by forces, as adjustText
does, were tried on the same figures: at their best three times as many labels come to lie nearer to a point that is
not theirs, and they take fifteen times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dualres_plugin.common.drawing import plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_Array = NDArray[np.float64]
PlaceLabels = Callable[["Axes", Sequence[tuple[float, float, str]]], "list[Bbox]"]
RADII = (6, 9, 13, 18, 24, 32, 42, 54)  # distances from point to label, in points of 1/72 inch
ANGLES = range(0, 360, 30)
LEADER_FROM = 12  # labels farther away than this get a thin line to their point
PASSES = 4
# Costs of a place, beside a tenth of its radius.
OVERLAP, OUTSIDE, ON_POINT, ON_LINE, LEADER_HITS, DOUBT = 1e3, 1e4, 40.0, 0.4, 12.0, 9.0


def place_labels(ax: Axes, points: Sequence[tuple[float, float, str]], size: float = 8) -> list[Bbox]:
    """Write a label beside each point so that labels cover neither each other nor points nor the legend.

    Each label takes the cheapest of the places around its point, crowded points first; further passes let
    every label move again now that it knows the others.

    Args:
        ax: axes with everything else drawn and their limits set; the figure needs an Agg canvas.
        points: (x, y, text) in data coordinates.
        size: font size.

    Returns:
        The boxes taken, in display pixels, in the order of `points`.
    """
    if not points:
        return []
    figure: Any = ax.figure
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    pixels: _Array = ax.transData.transform([point[:2] for point in points])
    markers, lines = _drawn_pixels(ax)
    scale = figure.dpi / 72
    sizes = [_text_size(ax, words, size, renderer) for _, _, words in points]
    candidates = [_candidates(pixel, *wh, scale) for pixel, wh in zip(pixels, sizes)]
    fixed = [
        _static_cost(ax, boxes, markers, lines) + _doubt(pixel, boxes, markers, scale)
        for pixel, boxes in zip(pixels, candidates)
    ]
    crowd = [float(np.sum(np.hypot(*(pixels - pixel).T) < 100 * scale)) for pixel in pixels]
    order = np.argsort(crowd, kind="stable")[::-1]
    chosen: dict[int, int] = {}
    for _ in range(PASSES):
        for index in order:
            others = np.array([candidates[i][k] for i, k in chosen.items() if i != index]).reshape(-1, 4)
            cost = fixed[index] + OVERLAP * _overlaps(candidates[index], others)
            cost += LEADER_HITS * _leader_hits(pixels[index], candidates[index], others, markers, scale)
            chosen[int(index)] = int(np.argmin(cost))
    return [
        _write(ax, points[i], candidates[i][chosen[i]], chosen[i], pixels[i], size, scale) for i in range(len(points))
    ]


def _text_size(ax: Axes, words: str, size: float, renderer: Any) -> tuple[float, float]:
    text = ax.text(0, 0, plain_text(words), fontsize=size, transform=None)
    box = text.get_window_extent(renderer)
    text.remove()
    return box.width, box.height


def _candidates(pixel: _Array, width: float, height: float, scale: float) -> _Array:
    """Boxes (x0, y0, x1, y1) that touch circles around a point, (K, 4), in the order of `_places`."""
    boxes = []
    for radius, angle in _places():
        dx, dy = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        x = pixel[0] + dx * radius * scale + (dx - 1) * width / 2
        y = pixel[1] + dy * radius * scale + (dy - 1) * height / 2
        boxes.append((x, y, x + width, y + height))
    return np.array(boxes)


def _places() -> list[tuple[int, int]]:
    return list(product(RADII, ANGLES))


def _static_cost(ax: Axes, boxes: _Array, markers: _Array, lines: _Array) -> _Array:
    """Cost of each place before other labels are known: distance, edges, points, lines, legend, (K,)."""
    frame = ax.get_window_extent()
    cost = np.array([radius / 10 + 0.2 * (angle % 90 > 0) + 0.1 * (angle > 0) for radius, angle in _places()])
    out = (boxes[:, 0] < frame.x0) | (boxes[:, 2] > frame.x1) | (boxes[:, 1] < frame.y0) | (boxes[:, 3] > frame.y1)
    cost += OUTSIDE * out
    cost += ON_POINT * _inside(boxes, markers, 5).sum(1) + ON_LINE * _inside(boxes, lines, 0).sum(1)
    blocked = [child for child in (ax.get_legend(), *ax.child_axes) if child is not None]
    frames = [child.get_window_extent().extents for child in blocked if "secondary" not in str(type(child)).lower()]
    return np.asarray(cost + OVERLAP * _overlaps(boxes, np.array(frames).reshape(-1, 4)))


def _inside(boxes: _Array, pixels: _Array, margin: float) -> NDArray[np.bool_]:
    """Which pixels lie in which boxes, (K, P)."""
    x, y = pixels[None, :, 0], pixels[None, :, 1]
    low, high = boxes[:, None, :2] - margin, boxes[:, None, 2:] + margin
    return (x > low[..., 0]) & (x < high[..., 0]) & (y > low[..., 1]) & (y < high[..., 1])


def _overlaps(boxes: _Array, others: _Array) -> _Array:
    """How many of the other boxes each box overlaps, (K,); a hair's breadth apart counts as overlap."""
    a, b = boxes[:, None], others[None]
    hit = (a[..., 0] < b[..., 2] + 3) & (a[..., 2] > b[..., 0] - 3) & (a[..., 1] < b[..., 3]) & (a[..., 3] > b[..., 1])
    return np.asarray(hit.sum(1), dtype=np.float64)


def _gaps(boxes: _Array, pixels: _Array) -> _Array:
    """Distance from each box to each pixel, (K, P)."""
    nearest = np.clip(pixels[None], boxes[:, None, :2], boxes[:, None, 2:])
    return np.asarray(np.hypot(*np.moveaxis(nearest - pixels[None], -1, 0)))


def _doubt(pixel: _Array, boxes: _Array, markers: _Array, scale: float) -> _Array:
    """Cost of places where a label could be read as another point's, (K,)."""
    foreign = markers[np.hypot(*(markers - pixel).T) > 3 * scale]
    if not len(foreign):
        return np.zeros(len(boxes))
    return np.asarray(DOUBT * (_gaps(boxes, foreign).min(1) < 1.25 * _gaps(boxes, pixel[None])[:, 0] + 3))


def _leader_hits(pixel: _Array, boxes: _Array, others: _Array, markers: _Array, scale: float) -> _Array:
    """How many labels and points the line from point to label would cross, (K,)."""
    near = np.clip(pixel[None], boxes[:, :2], boxes[:, 2:])
    steps = np.linspace(0, 1, 12)
    track = pixel[None, None] + steps[None, :, None] * (near - pixel)[:, None]  # (K, 12, 2)
    flat = track.reshape(-1, 2)
    hits = np.zeros(len(boxes))
    if len(others):
        hits += _inside(others, flat, 1).reshape(len(others), len(boxes), -1).any(2).sum(0)
    foreign = markers[np.hypot(*(markers - pixel).T) > 3 * scale]
    if len(foreign):
        gaps = np.hypot(*np.moveaxis(track[:, :, None] - foreign[None, None], -1, 0)).min(1)
        hits += (gaps < 4 * scale).sum(1)
    return hits


def _write(
    ax: Axes,
    point: tuple[float, float, str],
    box: _Array,
    place: int,
    pixel: _Array,
    size: float,
    scale: float,
) -> Bbox:
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    far = _places()[place][0] >= LEADER_FROM
    target = np.clip(pixel, box[:2], box[2:])
    if far:
        ends = ax.transData.inverted().transform([pixel, target])
        ax.plot(*ends.T, "-", color="#9aa5b1", linewidth=0.6, zorder=1.5)
    ax.annotate(
        plain_text(point[2]),
        point[:2],
        tuple((box[:2] - pixel) / scale),
        textcoords="offset points",
        fontsize=size,
        color="#3e4c59",
        zorder=6,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
    return Bbox([box[:2], box[2:]])


def _drawn_pixels(ax: Axes) -> tuple[_Array, _Array]:
    """Display positions of every marker, (M, 2), and along every line, (L, 2)."""
    markers, lines = [np.empty((0, 2))], [np.empty((0, 2))]
    for line in ax.get_lines():
        xy = ax.transData.transform(np.column_stack(line.get_data()).astype(float))
        if len(xy) and line.get_marker() not in ("None", "", " ", None) and line.get_markersize():
            markers.append(xy)
        if len(xy) and line.get_linestyle() not in ("None", "", " "):
            for a, b in pairwise(xy):
                steps = int(np.hypot(*(b - a)) // 6)
                lines.append(a + np.linspace(0, 1, steps + 2)[:, None] * (b - a))
    return np.concatenate(markers), np.concatenate(lines)
