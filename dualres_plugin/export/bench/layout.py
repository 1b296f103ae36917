"""Which convolutions of an exported model onnxruntime really runs in its fast layout: counted in its own graph."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.export.graph import require_onnx

FAST, PLAIN, REORDER = "NCHWc", "plain", "reorder"
INSIDE = " in If"  # appended to the above


def count_layouts(path: Path, threads: int = 1) -> Counter[str]:
    """Convolutions by layout, and reorderings between the layouts, after onnxruntime has optimised a graph.

    onnxruntime has a blocked layout (NCHWc) on x86; which convolutions get it depends on where their weights are.

    Args:
        path: an ONNX file.
        threads: of onnxruntime.

    Returns:
        Counts of "NCHWc", "plain" and "reorder"; the same with " in If" for those inside a branch.

    Raises:
        DualResError: If the file cannot be loaded.
    """
    import onnxruntime as ort

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="dualres-layout-") as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # it warns that the graph it writes suits this machine only: that is the point
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            graph = require_onnx().load(options.optimized_model_filepath, load_external_data=False).graph
        except Exception as error:  # onnxruntime has an exception class per cause, and no common base
            reason = str(error).strip().splitlines()[0][:200]
            raise DualResError(f"'{path}' cannot be loaded by onnxruntime: {reason}") from None
    _count(graph, "", counts)
    return counts


def _count(graph: Any, where: str, counts: Counter[str]) -> None:
    for node in graph.node:
        if node.op_type in ("Conv", "FusedConv"):
            counts[(FAST if "nchwc" in node.domain else PLAIN) + where] += 1
        elif node.op_type in ("ReorderInput", "ReorderOutput"):
            counts[REORDER + where] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _count(attribute.g, INSIDE, counts)


def layout_table(models: Sequence[Path]) -> str:
    """The counts of several files as text.

    Args:
        models: ONNX files; of a folder, every graph in it.

    Raises:
        DualResError: If one does not exist or cannot be loaded.
    """
    kinds = [kind + where for kind in (FAST, PLAIN, REORDER) for where in ("", INSIDE)]
    lines = [f"{'convolutions':40s}" + "".join(f"{kind:>14s}" for kind in kinds)]
    for path in files_of(models):
        counts = count_layouts(path)
        lines.append(f"{str(path)[-39:]:40s}" + "".join(f"{counts[kind]:14d}" for kind in kinds))
    return "\n".join(lines)


def files_of(models: Sequence[Path]) -> list[Path]:
    """ONNX files, and those in the folders of pairs.

    Args:
        models: files and folders.

    Raises:
        DualResError: If one does not exist or a folder holds none.
    """
    found: list[Path] = []
    for model in models:
        inside = sorted(model.glob("*.onnx")) if model.is_dir() else [model]
        if not model.exists() or not inside:
            raise DualResError(f"'{model}' is no ONNX file and no folder with some. Make one with: dualres export")
        found += inside
    return found
