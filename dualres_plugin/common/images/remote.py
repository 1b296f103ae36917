"""Listing the photos of a store."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import RemoteFile, filesystem


def list_remote(url: str, suffixes: Collection[str]) -> list[RemoteFile]:
    """The photos that a URL stands for, sorted.

    Args:
        url: of one photo, or of a folder, which is searched to the bottom.
        suffixes: of photos, in lower case.

    Raises:
        DualResError: If there are none, the store does not answer, or it is HTTP, which lists nothing.
    """
    single = RemoteFile(url)
    if single.suffix.lower() in suffixes:
        return [single]
    if url.startswith(("http://", "https://")):
        raise DualResError(
            f"'{url}': HTTP has no folders. Give a list file (.txt) with a URL per line, or .tar shards."
        )
    system, root = filesystem(url)
    try:
        paths = sorted(system.find(root))
    except Exception as error:  # each store has errors of its own
        raise DualResError(f"cannot list '{url}' ({error}).") from None
    root = root.rstrip("/")
    base = url.rstrip("/")
    found = [
        RemoteFile(base + path[len(root) :])
        for path in paths
        if path.startswith(root + "/") and PurePosixPath(path).suffix.lower() in suffixes
    ]
    if not found:
        raise DualResError(f"no images in '{url}' ({', '.join(sorted(suffixes))}).")
    return found
