"""Reading photos: odd formats, damaged files, and the sources that people pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import UnreadableImageError, image_size, read_image
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.images.sources import expand_source, iter_source, list_images
from tests.fakes import photo, write_photos

H, W = 30, 50
ORIENTATION = 0x0112


@pytest.fixture
def picture() -> np.ndarray:
    return photo(3, (H, W))


def same(read: np.ndarray, expected: np.ndarray) -> bool:
    return read.dtype == np.uint8 and read.shape == expected.shape and np.array_equal(read, expected)


# -- formats ----------------------------------------------------------------------------------------------


def test_rgb_is_read_as_it_is(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert same(read_image(tmp_path / "a.png"), picture)
    assert image_size(tmp_path / "a.png") == (H, W)


def test_grey_gets_three_equal_channels(tmp_path: Path, picture: np.ndarray) -> None:
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert same(read_image(tmp_path / "a.png"), np.repeat(grey[..., None], 3, axis=2))


def test_rgba_keeps_the_colours_below_the_alpha_channel(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros((H, W, 1), np.uint8)
    Image.fromarray(np.concatenate([picture, alpha], axis=2), "RGBA").save(tmp_path / "a.png")
    assert same(read_image(tmp_path / "a.png"), picture)
    Image.fromarray(np.concatenate([picture[..., :1], alpha], axis=2), "LA").save(tmp_path / "b.png")
    assert same(read_image(tmp_path / "b.png"), np.repeat(picture[..., :1], 3, axis=2))


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, picture: np.ndarray) -> None:
    grey = picture[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert same(read_image(tmp_path / "a.png"), np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_colour(tmp_path: Path, picture: np.ndarray) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1].astype(np.uint16) * 257)
    assert same(read_image(tmp_path / "a.png"), picture)


def test_palette_bilevel_and_cmyk(tmp_path: Path, picture: np.ndarray) -> None:
    for name, mode in (("p.png", "P"), ("1.png", "1"), ("c.jpg", "CMYK"), ("c.tif", "CMYK")):
        image = Image.fromarray(picture).convert(mode)
        image.save(tmp_path / name)
        read = read_image(tmp_path / name)
        expected = np.asarray(image.convert("RGB")).astype(int)
        assert read.shape == (H, W, 3)
        assert np.abs(read - expected).mean() < 6, name  # JPEG is lossy


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1)])
def test_one_pixel_high_or_wide(tmp_path: Path, size: tuple[int, int]) -> None:
    thin = photo(1, size)
    Image.fromarray(thin).save(tmp_path / "a.png")
    assert same(read_image(tmp_path / "a.png"), thin)
    assert torch.isfinite(router_images_of([thin]).images[0]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    turned = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }
    read = read_image(tmp_path / "a.png")
    assert same(read, np.ascontiguousarray(turned[orientation]))
    assert image_size(tmp_path / "a.png") == read.shape[:2]


def test_boxes_drawn_on_the_unrotated_pixels_keep_them(tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert same(read_image(tmp_path / "a.png", (H, W)), picture)
    assert read_image(tmp_path / "a.png", (W, H)).shape == (W, H, 3)
    with pytest.raises(UnreadableImageError, match="its annotation says 51x30"):
        read_image(tmp_path / "a.png", (30, 51))


# -- damage ------------------------------------------------------------------------------------------------


def test_damaged_files_are_named(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(photo(0, (200, 200))).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    cases = {
        "half.jpg": "damaged",
        "empty.jpg": r"empty \(0 bytes\)",
        "text.jpg": "not an image",
        "header.png": "cannot be read|not an image|damaged",
        "none.jpg": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(UnreadableImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
    for name in ("empty.jpg", "text.jpg", "none.jpg"):
        with pytest.raises(UnreadableImageError, match=name):
            image_size(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 2, 5, 10, 60, 100, 300, 900])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
def test_no_truncation_escapes_as_another_error(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(photo(0, (40, 40))).save(path, exif=exif)
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    for read in (read_image, image_size):
        try:
            read(path)
        except UnreadableImageError as error:
            assert path.name in str(error)


def test_damaged_exif_does_not_hide_the_picture(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff")
    assert read_image(tmp_path / "a.jpg").shape == (H, W, 3)
    assert image_size(tmp_path / "a.jpg") == (H, W)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(photo(0, (100, 100))).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImageError, match=r"a\.png"):
            read(tmp_path / "a.png")


# -- sources -----------------------------------------------------------------------------------------------


def names(source: object, **options: object) -> list[str]:
    return [image.name for image in iter_source(source, **options)]


def test_folders_globs_lists_and_files(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "list.txt").write_text(f"photos/2.png\n\n{tmp_path / 'photos' / '0.png'}\n")
    assert names(tmp_path / "photos") == ["0.png", "1.png", "2.png"]
    assert names(str(tmp_path / "photos" / "[12].png")) == ["1.png", "2.png"]
    assert names(tmp_path / "list.txt") == ["2.png", "0.png"]
    assert names(tmp_path / "photos" / "1.png") == ["1.png"]
    assert names([tmp_path / "photos" / "1.png", str(tmp_path / "photos" / "0.png")]) == ["1.png", "0.png"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), r"shape \(H, W, 3\), RGB; got \(3, 40, 50\)"),
        (np.zeros((40, 50), np.uint8), r"shape \(H, W, 3\)"),
        (np.zeros((40, 50, 3), np.float32), "must be uint8, 0 to 255; got float32"),
        (torch.zeros(3, 40, 50, dtype=torch.uint8), r"floating, RGB in \[0, 1\]; got torch.uint8. Divide it by 255"),
        (torch.full((3, 40, 50), 200.0), "this one reaches 200"),
        (torch.zeros(1, 3, 40, 50), r"shape \(3, H, W\), RGB; got \(1, 3, 40, 50\)"),
        (torch.zeros(40, 50, 3), r"shape \(3, H, W\)"),
    ],
)
def test_pictures_that_would_be_misread_are_refused(wrong: Any, message: str) -> None:
    for source in (wrong, [wrong], iter([wrong])):
        with pytest.raises(DualResError, match=message):
            list(iter_source(source))


def test_what_resampling_overshoots_is_no_mistake() -> None:
    (image,) = iter_source(torch.full((3, 4, 5), 1.1))
    assert (image.pixels == 255).all()


def test_arrays_tensors_and_pillow_images_are_the_same_picture(picture: np.ndarray) -> None:
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    for given in (picture, tensor, Image.fromarray(picture)):
        (single,) = iter_source(given)
        assert same(single.pixels, picture)
        assert torch.allclose(single.tensor(), tensor)
    assert names([picture, tensor]) == ["image0", "image1"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="no file, folder or glob match"):
        expand_source(tmp_path / "none*")
    with pytest.raises(DualResError, match="does not exist"):
        list_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DualResError, match="no images in"):
        list_images(tmp_path / "empty")


def test_unreadable_files_are_left_out_of_many_but_not_of_one(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)
    paths[1].write_bytes(b"")
    skipped: list[str] = []
    assert names(tmp_path, on_skip=skipped.append) == ["0.png", "2.png"]
    assert len(skipped) == 1 and "1.png" in skipped[0]
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        names(paths[1], on_skip=skipped.append)
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        names(tmp_path)


def test_video_frames(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for i in range(4):
        writer.write(np.full((48, 64, 3), (0, 0, 60 * i), np.uint8))  # BGR: ever redder
    writer.release()
    frames = list(iter_source(tmp_path / "v.avi"))
    assert [f.name for f in frames] == [f"v_{i:06d}.jpg" for i in range(4)]
    assert frames[3].pixels.shape == (48, 64, 3)
    red, green, blue = frames[3].pixels.reshape(-1, 3).mean(axis=0)
    assert red > 150 and green < 40 and blue < 40
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(DualResError, match="cannot be opened"):
        list(iter_source(tmp_path / "bad.mp4"))


@pytest.mark.parametrize("extra", [None, np.nan, np.inf, -np.inf])
def test_a_float_tiff_from_0_to_1_is_not_black(extra: float | None, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    if extra is not None:
        values[0, 1] = extra  # "no data", as maps have it
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif")
    assert pixels[7, 7].tolist() == [255] * 3 and pixels[4, 0, 0] == round(255 * 32 / 63)
    assert extra is None or pixels[0, 1].tolist() == [0] * 3
    Image.fromarray(values * 200).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[7, 7].tolist() == [200] * 3, "0 to 255 stays what it is"


def test_whatever_a_decoder_raises_is_one_damaged_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(write)

    def fail(*_: object) -> None:
        raise IndexError("out of a table")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    for reader in (read_image, image_size):
        with pytest.raises(UnreadableImageError, match="out of a table"):
            reader(write)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x89PNG"])
def test_a_binary_list_of_images(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DualResError, match="not a text file"):
        expand_source(tmp_path / "list.txt")


def test_sources_that_cannot_even_be_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for source in ("a" * 5000, tmp_path / ("b" * 300)):
        with pytest.raises(DualResError, match="cannot be read"):
            expand_source(source)
    for source in (tmp_path / "loop", tmp_path / "a\0b"):
        with pytest.raises(DualResError):
            list(iter_source(source))


def test_a_folder_inside_a_list_is_told_from_a_damaged_photo(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="is a folder inside of a list"):
        list(iter_source([tmp_path]))
