"""Photos in .tar shards and in stores: listed whole or not at all, read like files."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import blobs
from dualres_plugin.common.images.blobs import RemoteFile, TarMember, is_url
from dualres_plugin.common.images.decode import UnreadableImageError, image_size, read_image
from dualres_plugin.common.images.sources import expand_source, iter_source, list_images, lookup
from dualres_plugin.common.images.tars import shards_of
from tests.fakes import write_photos

fsspec = pytest.importorskip("fsspec")


def write_tar(path: Path, photos: list[Path], extra: bytes = b"{}") -> Path:
    """Photos with a .json beside each, as WebDataset writes them."""
    with tarfile.open(path, "w") as tar:
        for photo in photos:
            tar.add(photo, f"some/{photo.name}")
            member = tarfile.TarInfo(f"some/{photo.stem}.json")
            member.size = len(extra)
            tar.addfile(member, io.BytesIO(extra))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path / "photos", 4)


def pixels(source: object) -> list[bytes]:
    return [image.pixels.tobytes() for image in iter_source(source)]


def test_shards_a_store_and_lists_give_the_pixels_of_the_folder(photos: list[Path], tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"p-{number:03d}.tar", photos[2 * number : 2 * number + 2])
    wanted = pixels(tmp_path / "photos")
    assert pixels(str(tmp_path / "p-{000..001}.tar")) == wanted
    assert pixels(str(tmp_path / "p-*.tar")) == wanted
    assert pixels(f"file://{tmp_path}/photos") == wanted
    memory = fsspec.filesystem("memory")
    for file in [*photos, tmp_path / "p-000.tar", tmp_path / "p-001.tar"]:
        memory.pipe(f"/place/in/{file.name}", file.read_bytes())
    assert pixels("memory://place/in/") == wanted
    assert pixels("memory://place/in/p-{000..001}.tar") == wanted
    (tmp_path / "list.txt").write_text("memory://place/in/0.png\nphotos/1.png\n")
    assert pixels(tmp_path / "list.txt") == wanted[:2]


def test_what_is_listed_travels_and_has_the_names_of_a_path(photos: list[Path], tmp_path: Path) -> None:
    (member, *_) = expand_source(write_tar(tmp_path / "a.tar", photos))
    assert str(member) == f"{tmp_path}/a.tar/some/0.png" and (member.name, member.suffix) == ("0.png", ".png")
    assert pickle.loads(pickle.dumps(member)).read_bytes() == photos[0].read_bytes()
    assert image_size(member) == image_size(photos[0])
    remote = RemoteFile("https://example.org/a/b.jpg?key=1.png")
    assert (remote.name, remote.suffix) == ("b.jpg", ".jpg")
    assert is_url("s3://a") and not is_url("C:/a") and not is_url(Path("a/b"))


@pytest.mark.parametrize("damage", ["cut in a member", "cut between members", "a byte of a header", "empty", "gzip"])
def test_a_broken_shard_is_one_message_and_never_half_a_list(damage: str, photos: list[Path], tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", photos)
    content = bytearray(tar.read_bytes())
    with tarfile.open(tar) as whole:
        third = whole.getmembers()[4]
    if damage == "cut in a member":
        content = content[: third.offset_data + 10]
    elif damage == "cut between members":
        content = content[: third.offset]
    elif damage == "a byte of a header":
        content[third.offset + 3] ^= 255
    elif damage == "empty":
        content = bytearray()
    else:
        tar = tar.with_suffix(".tar.gz")
    tar.write_bytes(content)
    with pytest.raises(DualResError, match="is packed" if damage == "gzip" else r"'.*a\.tar' is damaged or is no .tar"):
        expand_source(tar)


def test_missing_shards_and_empty_ones(photos: list[Path], tmp_path: Path) -> None:
    write_tar(tmp_path / "p-0.tar", photos)
    with pytest.raises(DualResError, match=r"p-1\.tar' does not exist"):
        expand_source(str(tmp_path / "p-{0..1}.tar"))
    with pytest.raises(DualResError, match="give a range"):
        shards_of("p-{9..1}.tar")
    assert shards_of("{8..9}/{01..02}.tar") == ["8/01.tar", "8/02.tar", "9/01.tar", "9/02.tar"]
    write_tar(tmp_path / "none.tar", [])
    with pytest.raises(DualResError, match="no images in"):
        expand_source(tmp_path / "none.tar")


def test_links_and_names_that_lead_out_are_never_followed(photos: list[Path], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photos[0], "../../outside.png")
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(photos[1])
        tar.addfile(link)
    (only,) = iter_source(tmp_path / "a.tar")
    assert only.name == "outside.png", "read from the archive; its name is the last part alone"
    assert only.pixels.tobytes() == read_image(photos[0]).tobytes()


def test_what_is_unreadable_is_left_out_and_what_is_gone_stops(photos: list[Path], tmp_path: Path) -> None:
    photos[1].write_bytes(b"")
    photos[2].write_bytes(b"no photo")
    tar = write_tar(tmp_path / "a.tar", photos)
    skipped: list[str] = []
    assert [image.name for image in iter_source(tar, skipped.append)] == ["0.png", "3.png"]
    assert "1.png' is empty" in skipped[0] and "2.png' is not an image" in skipped[1]
    members = expand_source(tar)
    tar.write_bytes(tar.read_bytes()[:2000])
    with pytest.raises(DualResError, match="shorter than when it was listed") as caught:
        read_image(members[-1])
    assert not isinstance(caught.value, UnreadableImageError), "the run stops"
    with pytest.raises(UnreadableImageError, match="does not exist"):
        read_image(RemoteFile("memory://not/there.png"))


def test_too_large_for_a_photo(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MOST_BYTES", 100)
    monkeypatch.setattr("dualres_plugin.common.images.decode.MOST_BYTES", 100)
    (member, *_) = expand_source(write_tar(tmp_path / "a.tar", photos))
    assert isinstance(member, TarMember) and len(member.read_bytes()) == 101
    with pytest.raises(UnreadableImageError, match="has more than 0 MB"):
        read_image(member)


def test_a_store_that_fails_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "open", fail)
    with pytest.raises(DualResError, match=r"cannot read 'memory://a/b\.png' \(no route\)") as caught:
        read_image(RemoteFile("memory://a/b.png"))
    assert not isinstance(caught.value, UnreadableImageError)


def test_stores_that_cannot_be_listed() -> None:
    with pytest.raises(DualResError, match="HTTP has no folders"):
        expand_source("https://example.org/photos/")
    with pytest.raises(DualResError, match=r"'nosuch://a' cannot be opened"):
        expand_source("nosuch://a")
    with pytest.raises(DualResError, match="no images in 'memory://nothing'"):
        expand_source("memory://nothing")


def test_annotated_names_are_found(photos: list[Path], tmp_path: Path) -> None:
    find = lookup(str(write_tar(tmp_path / "a.tar", photos)))
    assert str(find("some/1.png")).endswith("a.tar/some/1.png") and find("1.png") is None
    memory = fsspec.filesystem("memory")
    memory.pipe("/set/a/1.png", photos[1].read_bytes())
    find = lookup("memory://set")
    assert str(find("a/1.png")) == "memory://set/a/1.png" and find("2.png") is None
    assert str(lookup("https://example.org/x")("2.png")) == "https://example.org/x/2.png"


def test_a_folder_is_walked_in_the_order_of_sorted_paths(tmp_path: Path) -> None:
    for name in ("b.png", "b/1.png", "b-/1.png", "a/z/2.PNG", "a.jpg", "a/b.png", "B/1.png", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    everything = sorted(p for p in tmp_path.rglob("*") if p.suffix.lower() in (".png", ".jpg") and not p.is_dir())
    assert list_images(tmp_path) == [p for p in everything if "loop" not in p.parts]
