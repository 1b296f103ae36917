"""Settings of onnxruntime's execution providers that a routed detector needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Provider = str | tuple[str, dict[str, Any]]
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


def with_options(providers: Sequence[Provider], cache: Path | str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Execution providers with their options.

    A routed detector runs at several input shapes. By default CUDA tries every convolution algorithm anew for each
    shape, which takes longer than the pass; HEURISTIC asks cuDNN instead. TensorRT builds an engine for each graph,
    which takes minutes: the cache keeps it for the next start.

    Args:
        providers: names as onnxruntime has them, or (name, options), whose options win over those of this function.
        cache: folder for TensorRT's engines; None keeps none.

    Returns:
        (name, options) of each, in order.
    """
    defaults: dict[str, dict[str, Any]] = {CUDA: {"cudnn_conv_algo_search": "HEURISTIC"}}
    if cache is not None:
        folder = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
        defaults[TENSORRT] = {**folder, "trt_timing_cache_enable": True, "trt_timing_cache_path": str(cache)}
    named = [(one, {}) if isinstance(one, str) else one for one in providers]
    return [(name, {**defaults.get(name, {}), **options}) for name, options in named]
