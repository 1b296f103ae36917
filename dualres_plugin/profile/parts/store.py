"""The folder of a profile in the making: started, resumed, finished."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, make_dir, read_json, write_json
from dualres_plugin.profile.parts.batches import skipped_of
from dualres_plugin.profile.parts.rows import group_rows
from dualres_plugin.profile.parts.sorting import write_sorted
from dualres_plugin.profile.schema import checksum, schema_of
from dualres_plugin.profile.table import META, PARTS, ROWS, Profile

logger = logging.getLogger("dualres")


def check_folder(out: Path, meta: dict[str, Any]) -> bool:
    """Start a profile's folder, or resume it.

    Args:
        out: the folder, which exists.
        meta: settings of the profile.

    Returns:
        True if the folder holds the finished profile already.

    Raises:
        DualResError: If it holds a profile made with other settings, or something else.
    """
    if (out / META).is_file():
        old = read_json(out / META, "profile description")
        if not isinstance(old, dict):
            raise DualResError(
                f"'{out / META}' does not describe a profile. Choose another --out, or delete the folder."
            )
        changed = [k for k in dict.fromkeys((*meta, "half", "clips")) if old.get(k) != meta.get(k)]
        if changed:
            was = ", ".join(f"{k} {old.get(k)!r} -> {meta.get(k)!r}" for k in changed[:3] if k != "categories")
            raise DualResError(
                f"'{out}' holds a profile made with other settings ({was}). Choose another --out, or delete the folder."
            )
        if (out / ROWS).is_file():
            logger.info("profile %s is complete already", out)
            shutil.rmtree(out / PARTS, ignore_errors=True)  # a kill came between the table and this
            return True
    elif any(out.iterdir()):
        raise DualResError(f"'{out}' is not empty and not a profile. Choose another --out.")
    else:
        write_json(out / META, meta)
    make_dir(out / PARTS)
    return False


@dataclass(frozen=True)
class Origin:
    """What the description of a profile says about the data set beside its settings.

    Attributes:
        images: how many the data set has.
        dropped: images and annotations that reading it left out.
        left_out: the same in words, a line for each kind.
        notes: what to know before believing numbers from the profile.
    """

    images: int
    dropped: int = 0
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def finish(out: Path, meta: dict[str, Any], files: Sequence[Path], origin: Origin) -> Profile:
    """Sort the rows of all parts into one file; only then do the parts go.

    Args:
        out: the profile's folder.
        meta: settings of the profile.
        files: joined parts, in this folder or in others.
        origin: what else to write down.

    Returns:
        The profile, read back.

    Raises:
        DualResError: If not one image could be used, or a part was damaged meanwhile.
    """
    skipped = [message for _, part in sorted(entry for path in files for entry in skipped_of(path)) for message in part]
    with atomic_write(out / ROWS) as temporary:
        rows = write_sorted(files, temporary, schema_of(meta), group_rows(int(meta["thumbnail_size"])))
        if not rows:
            shutil.rmtree(out)
            raise DualResError(f"not one of {origin.images} images could be used; the first problem: {skipped[0]}")
        # Before the table takes its name: a kill in between leaves an unfinished profile, which is finished again.
        told = {**meta, "left_out": origin.left_out + skipped, "notes": origin.notes, "rows": rows}
        write_json(out / META, {**told, "checksum": checksum(temporary)})
    shutil.rmtree(out / PARTS, ignore_errors=True)
    if skipped or origin.dropped:
        count = len(skipped) + origin.dropped
        logger.warning("%d images or annotations were left out; %s lists them", count, out / META)
    return Profile.load(out)
