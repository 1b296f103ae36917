"""Shards of a profile: what each process of many leaves, and how they become one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json, write_json
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.files.shard import Shard, parse_shard
from dualres_plugin.profile.parts.batches import joined_batches, read_checksums
from dualres_plugin.profile.parts.store import Origin, check_folder, finish
from dualres_plugin.profile.schema import check_meta, schema_of
from dualres_plugin.profile.table import META, PARTS, Profile

logger = logging.getLogger("dualres")
OWN = ("shard", "batches", "origin", "finished")  # keys of a shard's description that the whole has not


def finish_shard(out: Path, meta: dict[str, Any], batches: int, origin: Origin) -> None:
    """Note that a shard has all its parts.

    Args:
        out: its folder.
        meta: settings of the profile, and "shard".
        batches: how many the whole has.
        origin: what else `merge_shards` has to write down.
    """
    write_json(out / META, {**meta, "batches": batches, "origin": asdict(origin), "finished": True})


def merge_shards(out: Path | str, shards: Sequence[Path | str]) -> Profile:
    """Make one profile of its shards; it is the one that a single process would have made.

    Args:
        out: the profile's folder. The shards stay.
        shards: the folders of all of them, in any order.

    Returns:
        The profile.

    Raises:
        DualResError: If shards are missing, unfinished, damaged, there twice or of different profiles.
    """
    folders = [Path(shard) for shard in shards]
    described = [_description(folder) for folder in folders]
    meta = _common(folders, described)
    _check_complete(folders, described)
    files = _files(folders, meta, described[0]["batches"])
    with locked(out) as folder:
        if check_folder(folder, meta):
            return Profile.load(folder)
        return finish(folder, meta, files, Origin(**described[0]["origin"]))


def _description(folder: Path) -> dict[str, Any]:
    meta = check_meta(read_json(folder / META, "description of a shard"), folder / META)
    if not isinstance(meta.get("shard"), str):
        raise DualResError(f"'{folder}' is no shard of a profile: make shards with `dualres profile … --shard 1/4`.")
    if not (meta.get("finished") is True and isinstance(meta.get("batches"), int)):
        raise DualResError(f"shard '{folder}' is not finished: run its command again to resume it.")
    return meta


def _common(folders: Sequence[Path], described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings that all of them have."""
    plain = [{key: value for key, value in meta.items() if key not in OWN} for meta in described]
    for folder, meta, own in zip(folders, plain, described):
        keys = [key for key in {**plain[0], **meta} if meta.get(key) != plain[0].get(key)]
        if keys or own["batches"] != described[0]["batches"]:
            raise DualResError(
                f"'{folder}' and '{folders[0]}' are not of the same profile: they differ in "
                f"{', '.join(keys[:4]) or 'their number of batches'}."
            )
    return plain[0]


def _check_complete(folders: Sequence[Path], described: Sequence[dict[str, Any]]) -> None:
    shards = [parse_shard(meta["shard"]) for meta in described]
    of: dict[Shard, Path] = {}
    for folder, shard in zip(folders, shards):
        if shard.total != shards[0].total:
            raise DualResError(f"'{folder}' is shard {shard}, '{folders[0]}' is shard {shards[0]}: of one run only.")
        if shard in of:
            raise DualResError(f"shard {shard} is there twice: '{of[shard]}' and '{folder}'.")
        of[shard] = folder
    missing = [i for i in range(1, shards[0].total + 1) if Shard(i, shards[0].total) not in of]
    if missing:
        some = ", ".join(f"{i}/{shards[0].total}" for i in missing[:8])
        raise DualResError(
            f"{len(missing)} of {shards[0].total} shards are missing: {some}{', …' if len(missing) > 8 else ''}."
        )


def _files(folders: Sequence[Path], meta: dict[str, Any], batches: int) -> list[Path]:
    """All joined parts, undamaged, that together have every batch once."""
    files, seen = [], set[int]()
    for folder in folders:
        known = read_checksums(folder / PARTS)
        for path in sorted((folder / PARTS).glob("joined-*.arrow")):
            found = joined_batches(path, known.get(path.name), schema_of(meta))
            if found is None or found & seen:
                raise DualResError(f"'{path}' is damaged: run the command of shard '{folder}' again, it mends it.")
            seen |= found
            files.append(path)
    if seen != set(range(batches)):
        raise DualResError(
            f"{len(set(range(batches)) - seen)} of {batches} batches are in no shard: run the commands of the shards "
            "again, each mends its own."
        )
    return files
