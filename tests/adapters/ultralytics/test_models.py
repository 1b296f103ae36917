"""What can be loaded and routed, and what the others are told."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import adapt, load_detector


def test_an_absent_yolov6n_says_where_such_a_file_comes_from() -> None:
    for use in (lambda: load_detector("yolov6n.pt"), lambda: DualResWrapper("ultralytics:runs/yolov6n.pt")):
        with pytest.raises(DualResError, match=r"ships yolov6n\.yaml only.*train_ultralytics\.py.*Meituan"):
            use()


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(DualResError, match=r"cannot load '.*junk\.pt'"):
        load_detector(str(tmp_path / "junk.pt"))
    with pytest.raises(DualResError, match=r"cannot load .*none\.pt"):
        load_detector(str(tmp_path / "none.pt"))
    with pytest.raises(DualResError, match=r"take no options, got \['classes'\]"):
        load_detector("ultralytics:yolov8n.yaml,classes=3")


@pytest.mark.parametrize("config", ["yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-cls.yaml"])
def test_other_tasks_are_refused(config: str) -> None:
    from ultralytics import YOLO

    with pytest.raises(DualResError, match="routes object detectors"):
        adapt(YOLO(config))


def test_an_exported_model_is_refused() -> None:
    # What `YOLO("m.engine")` looks like; loading a real one needs its runtime.
    exported = type("YOLO", (), {"__module__": "ultralytics.models.yolo.model", "model": "m.engine", "names": {}})()
    with pytest.raises(DualResError, match=r"'m\.engine' is an exported model.*load the \.pt"):
        adapt(exported)


def test_a_missing_file_does_not_send_the_host_to_the_network(tmp_path: Path) -> None:
    """Offline nothing is fetched; online only what Ultralytics itself releases, by its bare name."""
    for spec in ("mine.pt", str(tmp_path / "yolo11n.pt"), "runs/yolo11x.pt", "https://host/a.pt"):
        with pytest.raises(DualResError, match="does not exist"):
            load_detector(f"ultralytics:{spec}")
    with pytest.raises(DualResError, match="YOLO_OFFLINE"):
        load_detector("yolo11x.pt")
