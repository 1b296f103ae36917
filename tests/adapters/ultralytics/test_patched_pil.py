"""Ultralytics replaces `PIL.Image.open`; unreadable files must still be one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ultralytics", reason="Ultralytics is not installed")

from dualres_plugin.common.images.decode import UnreadableImageError, image_size, read_image


@pytest.mark.parametrize("read", [read_image, image_size])
def test_no_image_is_named_after_ultralytics_has_patched_pil(read, tmp_path: Path) -> None:
    import ultralytics  # noqa: F401 - the import is what patches PIL

    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    with pytest.raises(UnreadableImageError, match="not an image that can be read"):
        read(path)
