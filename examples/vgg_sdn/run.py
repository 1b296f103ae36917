"""Train VGG-SDN on generated shapes, export it with nested `torch.cond`, and time it with and without exits.

python examples/vgg_sdn/run.py --out runs/vgg_sdn
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded: idle threads sleep between cases

import numpy as np
import torch
import torch.nn.functional as F
from sdn import CondExits, EagerExits, VggSdn, make_images

from dualres_plugin.export.bench.layout import layout_table

BATCH = 32


def train(options: argparse.Namespace, weights: Path) -> VggSdn | None:
    """SDN's joint training: the losses of all seven classifiers, the early ones weighted less.

    Every epoch is kept in `training.pt`, so a training that was stopped goes on where it was.

    Returns:
        The network, or None if `--minutes` were over before the last epoch.
    """
    torch.manual_seed(options.seed)
    net = VggSdn(options.width).train()
    x, y = make_images(options.images, options.seed)
    steps = options.epochs * (len(x) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps)
    kept = options.out / "training.pt"
    parts = {"net": net, "optimiser": optimiser, "schedule": schedule}
    recipe = {name: getattr(options, name) for name in ("width", "images", "epochs", "seed")}
    first = _restore(kept, parts, recipe)
    start = time.monotonic()
    for epoch in range(first, options.epochs):
        if epoch > first and time.monotonic() - start > 60 * options.minutes:
            print(f"{options.minutes:g} minutes are over after epoch {epoch}: the same command goes on.")
            return None
        torch.manual_seed(options.seed + epoch)  # the same order of images, stopped or not
        last = _epoch(net, x, y, optimiser, schedule)
        print(f"epoch {epoch + 1}/{options.epochs}: loss of the last classifier {last:.3f}", flush=True)
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "epoch": epoch + 1, "recipe": recipe}, kept)
    torch.save(net.state_dict(), weights)
    kept.unlink(missing_ok=True)
    return net.eval()


def _restore(kept: Path, parts: dict[str, Any], recipe: dict[str, Any]) -> int:
    """Load a stopped training of the same recipe; returns the epochs that are done."""
    if not kept.is_file():
        return 0
    saved = torch.load(kept, weights_only=True)
    if saved["recipe"] != recipe:
        print(f"{kept} was made with other settings: training starts again.")
        return 0
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"])


def _epoch(net: VggSdn, x: torch.Tensor, y: torch.Tensor, optimiser: Any, schedule: Any) -> float:
    weights = torch.linspace(0.3, 0.9, 6)
    order = torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH)
    total = 0.0
    for rows in order:
        losses = [F.cross_entropy(logits, y[rows]) for logits in net.all_logits(x[rows])]
        loss = losses[-1] + sum(w * v for w, v in zip(weights, losses))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += float(losses[-1].detach())
    return total / len(order)


class AllClassifiers(torch.nn.Module):
    """Every layer and every classifier, and no exit: what the classifiers alone cost."""

    def __init__(self, net: VggSdn):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(self.net.all_logits(x))


def export(net: VggSdn, folder: Path) -> dict[str, Path]:
    """`plain`, `classifiers` (no exit is taken, there is no `If`), `exits` as exported, and `exits_inside`."""
    import onnx

    blank = torch.zeros(1, 3, 32, 32)
    options: dict[str, Any] = {"dynamo": True, "opset_version": 18, "verbose": False}
    routed, names = (blank, torch.tensor(0.9)), ["images", "threshold"]
    made = {
        "plain": torch.onnx.export(net, (blank,), input_names=names[:1], **options),
        "classifiers": torch.onnx.export(AllClassifiers(net), (blank,), input_names=names[:1], **options),
        "exits": torch.onnx.export(CondExits(net), routed, input_names=names, **options),
    }
    models = {name: program.model_proto for name, program in made.items()}
    models["exits_inside"] = onnx.ModelProto.FromString(models["exits"].SerializeToString())
    weights_inside(models["exits_inside"].graph)
    files = {}
    for name, model in models.items():
        strip(model.graph)
        onnx.checker.check_model(model)
        files[name] = folder / f"{name}.onnx"
        onnx.save(model, str(files[name]))
    return files


def weights_inside(graph: Any) -> None:
    """Move weights that a single branch reads into that branch.

    Each layer of an early-exit network lies in one branch only, so nothing is stored twice; and ONNX Runtime has its
    fast layout for convolutions whose weights are constants of their own graph.
    """
    branches = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    used = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
    reads = [names_in(branch) for branch in branches]
    kept = []
    for weight in graph.initializer:
        readers = [branch for branch, names in zip(branches, reads) if weight.name in names]
        if weight.name in used or len(readers) != 1:
            kept.append(type(weight).FromString(weight.SerializeToString()))
        else:
            readers[0].initializer.add().CopyFrom(weight)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for branch in branches:
        weights_inside(branch)


def names_in(graph: Any) -> set[str]:
    """Every name that a graph or one of its branches reads or gives."""
    names = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
    return names.union(*(names_in(a.g) for node in graph.node for a in node.attribute if a.HasField("g")))


def strip(graph: Any) -> None:
    """Drop the source positions that the exporter leaves on every node, and shapes that a runtime infers itself."""
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip(attribute.g)


def session(path: Path, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Idle threads of one case must not take the cores from the next one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(cases: dict[str, Callable[[int], Any]], count: int) -> dict[str, list[float]]:
    """Milliseconds per image, all cases on an image before the next one comes."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for i in range(-10, count):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            cases[name](max(i, 0))
            if i >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def by_exit(times: list[float], taken: list[int]) -> float:
    """Mean cost with each exit's median: a mean that other processes cannot disturb."""
    total = 0.0
    for leave in set(taken):
        own = [t for t, e in zip(times, taken) if e == leave]
        total += statistics.median(own) * len(own)
    return total / len(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/vgg_sdn"))
    parser.add_argument("--width", type=float, default=0.5, help="multiplies VGG-16's channels")
    parser.add_argument("--images", type=int, default=3000, help="generated training images")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threshold", type=float, default=0.9, help="confidence that lets an image leave")
    parser.add_argument("--count", type=int, default=300, help="images to time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop the training after; call again")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    weights = options.out / "vgg_sdn.pt"
    if weights.is_file():
        net = VggSdn(options.width).eval()
        net.load_state_dict(torch.load(weights, weights_only=True))
    else:
        trained = train(options, weights)
        if trained is None:
            return
        net = trained
    with torch.no_grad():
        report(net, options)


def report(net: VggSdn, options: argparse.Namespace) -> None:
    """Accuracy, parity, Table 4 and where the time goes."""
    files = export(net, options.out)
    run = {name: session(path, options.threads) for name, path in files.items()}
    x, y = make_images(options.count, options.seed + 1)
    arrays = [image[None].numpy() for image in x]
    limit, never = (np.array(v, np.float32) for v in (options.threshold, 2.0))
    eager = EagerExits(net, options.threshold)
    answers = [eager(image[None]) for image in x]
    taken = [leave for _, leave in answers]
    for name in ("exits", "exits_inside"):
        check(run[name], arrays, answers, options.threshold)
    whole = net(x)
    right = [int(logits.argmax() == label) for (logits, _), label in zip(answers, y)]
    times = measure(
        {
            "eager, no exits": lambda i: net(x[i : i + 1]),
            "eager, exits": lambda i: eager(x[i : i + 1]),
            "ONNX, no exits": lambda i: run["plain"].run(None, {"images": arrays[i]}),
            "ONNX, exits": lambda i: run["exits"].run(None, {"images": arrays[i], "threshold": limit}),
            "weights inside, exits": lambda i: run["exits_inside"].run(None, {"images": arrays[i], "threshold": limit}),
            "all classifiers": lambda i: run["classifiers"].run(None, {"images": arrays[i]}),
            "exits, never": lambda i: run["exits"].run(None, {"images": arrays[i], "threshold": never}),
            "inside, never": lambda i: run["exits_inside"].run(None, {"images": arrays[i], "threshold": never}),
        },
        options.count,
    )
    cost = {name: by_exit(t, taken) if name.endswith(", exits") else statistics.median(t) for name, t in times.items()}
    shares = [taken.count(i) / len(taken) for i in range(7)]
    lines = [
        f"generated shapes, 10 classes, {options.count} images, width {options.width}, {options.threads} threads",
        f"accuracy without exits {float((whole.argmax(1) == y).float().mean()):.3f}, with {np.mean(right):.3f}; "
        f"images leaving at exits 1 to 6 and the end: {' '.join(f'{s:.0%}' for s in shares)}",
        "",
        *table(cost),
        "",
        *overhead(cost),
        "",
        layout_table(list(files.values())),
        "MB: " + ", ".join(f"{name} {path.stat().st_size / 1e6:.2f}" for name, path in files.items()),
    ]
    text = "\n".join(lines)
    (options.out / "table4.txt").write_text(text + "\n")
    (options.out / "table4.json").write_text(json.dumps({"ms": cost, "shares": shares}, indent=2))
    print(text)


def check(exits: Any, arrays: list[np.ndarray], answers: list[tuple[torch.Tensor, int]], threshold: float) -> None:
    """Every image leaves where it does in PyTorch, with the same logits."""
    limit = np.array(threshold, np.float32)
    for array, (logits, leave) in zip(arrays, answers):
        found, at = exits.run(None, {"images": array, "threshold": limit})
        sure = float(logits.softmax(1).max())
        assert int(at[0]) == leave or abs(sure - threshold) < 1e-4, "ONNX and eager take different exits"
        assert int(at[0]) != leave or np.allclose(found, logits.numpy(), atol=1e-3), "ONNX and eager logits differ"


def table(cost: dict[str, float]) -> list[str]:
    """The layout of the paper's Table 4."""
    plain = {"eager": cost["eager, no exits"], "ONNX": cost["ONNX, no exits"], "weights inside": cost["ONNX, no exits"]}
    names = {"eager": "eager", "ONNX": "ONNX", "weights inside": "ONNX, weights inside"}
    lines = [f"{'ms per image':22s}{'no exits':>12s}{'exits':>12s}{'speed-up':>12s}"]
    for kind, without in plain.items():
        routed = cost[f"{kind}, exits"]
        lines.append(f"{names[kind]:22s}{without:12.3f}{routed:12.3f}{without / routed:11.2f}x")
    for kind in ("ONNX", "weights inside"):
        ratios = plain["eager"] / plain[kind], cost["eager, exits"] / cost[f"{kind}, exits"]
        lines.append(f"{names[kind] + ' / eager':28s}{ratios[0]:5.2f}x{ratios[1]:11.2f}x")
    return lines


def overhead(cost: dict[str, float]) -> list[str]:
    """What exits cost an image that takes none, step by step."""
    plain = cost["ONNX, no exits"]
    steps = {
        "all layers": plain,
        "and the six classifiers": cost["all classifiers"],
        "in six nested If, weights inside": cost["inside, never"],
        "in six nested If, as exported": cost["exits, never"],
    }
    return ["no exit taken"] + [f"  {name:34s}{ms:8.3f} ms{ms / plain:7.2f} x" for name, ms in steps.items()]


if __name__ == "__main__":
    main()
