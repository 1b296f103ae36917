"""Streams in a config: what the `stream` of a `dualres` key may hold, and what decides frames then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dualres_plugin.budget.stream.stream import StreamOptions
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.types import Decision, Detections, RouterImages
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.stream_gate import StreamGate, stream_options


@dataclass(frozen=True)
class StreamSettings:
    """What `stream` may hold; the names are those of `DualResWrapper` and of `StreamOptions`.

    Attributes:
        memory: True reads the stream head beside the router; a text is the file or folder of one.
        skip: the most frames in a row that may reuse the last boxes.
        still, slow, hysteresis: as of `StreamOptions`.
        hold_rate: keep `target_high_rate`, or the mean cost of `shares`, when the content drifts.
        fps: instead of a rate: mean frames per second, held by what frames take while they run.

    Raises:
        DualResError: If a number is out of range.
    """

    memory: bool | str = False
    skip: int = 0
    still: float = StreamOptions.still
    slow: float = StreamOptions.slow
    hysteresis: float = StreamOptions.hysteresis
    hold_rate: bool = False
    fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("hold_rate", *(() if isinstance(self.memory, str) else ("memory",))):
            if not isinstance(getattr(self, name), bool):
                raise DualResError(f"stream: {name}={getattr(self, name)!r} must be True or False.")
        check_number("fps", self.fps, above=0)
        self._plain()

    def _plain(self) -> StreamOptions:
        return StreamOptions(None, self.skip, self.still, self.slow, self.hysteresis)

    def options(self, router: object) -> StreamOptions | None:
        """How frames are decided; None where nothing but a held rate is asked for.

        Args:
            router: what the config names: a folder is looked into.

        Raises:
            DualResError: If there is no head.
        """
        found = stream_options(self.memory, self.skip, router)
        if found is None:
            return None if self._plain() == StreamOptions() else self._plain()
        return replace(self._plain(), head=found.head)


STREAM = tuple(field.name for field in fields(StreamSettings))


def stream_settings(given: Any) -> StreamSettings | None:
    """Checked settings of a stream.

    Args:
        given: a dict by name, or None.

    Returns:
        None where there is no stream.

    Raises:
        DualResError: If it is no dict, a key is unknown, or a value cannot be.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise DualResError(f"stream={given!r} in the dualres settings must be dict(memory=True, skip=3, …).")
    unknown = [key for key in given if key not in STREAM]
    if unknown:
        named = ", ".join(f"'{key}'" for key in unknown)
        raise DualResError(
            f"unknown key {named} in the stream of the dualres settings; known keys: {', '.join(STREAM)}."
        )
    return StreamSettings(**given)


class Held:
    """Decides by a gate that is made at the first frame, when the router's calibration is known.

    Not a module: the router's weights are the model's own, and a checkpoint holds them once.

    Args:
        make: gives the gate.
    """

    def __init__(self, make: Callable[[], Gate]):
        self.make = make
        self._gate: Gate | None = None

    @property
    def gate(self) -> Gate:
        """The gate of the frames so far."""
        if self._gate is None:
            self._gate = self.make()
        return self._gate

    def forget(self) -> None:
        """Begin anew: the router or its calibration has changed."""
        self._gate = None

    def __call__(self, images: RouterImages) -> Decision:
        decision: Decision = self.gate(images)
        return decision


class Remembered(Held):
    """The same, of a gate that has to be told what was found."""

    def observe(self, found: Sequence[Detections]) -> None:
        """As of `StreamGate`."""
        assert isinstance(self.gate, StreamGate)
        self.gate.observe(found)
