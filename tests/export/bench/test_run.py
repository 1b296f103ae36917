"""The arithmetic of the bench: mixes, ratios, the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dualres_plugin.export.bench.result import BenchResult, Timing
from dualres_plugin.export.parity import Parity


def timing(milliseconds: list[float], steps: list[int] | None = None) -> Timing:
    made = Timing()
    for i, ms in enumerate(milliseconds):
        made.add(ms, steps[i] if steps else 0)
    return made


def result() -> BenchResult:
    routes = [0, 1, 1, 1]
    timings = {
        "plain_high": timing([40.0] * 4),
        "plain_low": timing([10.0] * 4),
        "router": timing([1.0] * 4),
        "router_network": timing([0.4] * 4),
        "cond_100": timing([42.0] * 4, routes),
        "cond_50": timing([42.0, 12.0, 12.0, 12.0], routes),
        "cond_0": timing([12.0] * 4, routes),
    }
    for percent in (100, 50, 0):
        timings[f"eager_{percent}"] = timing([2 * t for t in timings[f"cond_{percent}"].milliseconds], routes)
    for name in ("plain_high", "plain_low", "router"):
        timings[f"eager_{name}"] = timings[name]
    memory = {"plain_high": {"now": 100.0, "peak": 120.0}, "cond": {"now": 105.0, "peak": 130.0}}
    sizes = {"plain_high": 10.0, "plain_low": 10.0, "cond": 11.0, "router": 0.5}
    parity = {"cond": Parity(images=7, box=0.25, detections=30).to_dict()}
    return BenchResult(timings, (0.25, 0.75), sizes, memory, ["cond"], 4, 2, high=640, scales=(0.5,), parity=parity)


def test_a_mix_weighs_each_routes_median_by_its_share() -> None:
    mixed = timing([40.0, 44.0, 400.0, 10.0, 12.0, 11.0], [0, 0, 0, 1, 1, 1])
    assert mixed.mixed() == pytest.approx((3 * 44 + 3 * 11) / 6)  # one disturbed photo does not count
    assert timing([5.0, 7.0, 9.0]).mixed() == 7.0
    assert mixed.median() == 26.0


def test_ratios_are_to_the_ideal_mix_of_the_plain_detector() -> None:
    rows = {row["high_percent"]: row for row in result().rows()}
    assert rows[100]["ratio"] == pytest.approx(42 / 40) and rows[100]["ratio_without_router"] == pytest.approx(41 / 40)
    ideal = 0.25 * 40 + 0.75 * 10  # by the share that went high, not by the name of the point
    assert rows[50]["ideal_ms"] == ideal and rows[50]["ms"] == pytest.approx((42 + 3 * 12) / 4)
    assert rows[50]["ratio"] == pytest.approx(19.5 / 17.5)
    assert rows[0]["speedup"] == pytest.approx(2.0) and rows[0]["paper_speedup"] == 1.30


def test_a_detector_that_was_rewritten_is_compared_with_itself_too() -> None:
    assert result().rows()[0]["lean_ratio"] == result().rows()[0]["ratio"]  # nothing was: one ideal
    assert "fast decoding" not in result().table()
    rewritten = result()
    rewritten.timings |= {"lean_high": timing([35.0] * 4), "lean_low": timing([8.0] * 4)}
    row = rewritten.rows()[0]
    assert row["ratio"] == pytest.approx(42 / 40)
    assert row["lean_ratio"] == pytest.approx(42 / 35) and row["lean_ratio_without_router"] == pytest.approx(41 / 35)
    table = rewritten.table()
    assert "ideal mix, fast decoding" in table and "1.200" in table and "lean_low" in table


def test_the_table_and_the_files_hold_the_same_figures(tmp_path: Path) -> None:
    result().write(tmp_path)
    table = (tmp_path / "table.txt").read_text()
    assert "1.114" in table and "1.050" in table  # 50 %, 100 %
    assert "7 photos, every route, 30 detections: boxes within 0.25 px" in table
    assert "10.0% with its thumbnail, 4.0% the network" in table
    with (tmp_path / "summary.csv").open() as file:
        summary = list(csv.DictReader(file))
    assert [float(row["ratio"]) for row in summary] == pytest.approx([42 / 40, 19.5 / 17.5, 1.2])
    with (tmp_path / "times.csv").open() as file:
        assert sum(row["case"] == "cond_50" for row in csv.DictReader(file)) == 4
    assert json.loads((tmp_path / "bench.json").read_text())["sizes"]["cond"] == 11.0
    assert (tmp_path / "bench.png").stat().st_size > 5000


def test_a_form_whose_thumbnail_is_outside_has_a_router_of_its_own_cost() -> None:
    both = result()
    both.forms.append("cond-outside")
    both.timings |= {name.replace("cond", "cond-outside"): t for name, t in both.timings.items() if "cond" in name}
    both.timings["thumbnail"] = timing([0.2] * 4)
    inside, outside = (row for row in both.rows() if row["high_percent"] == 100)
    assert inside["ratio_without_router"] == pytest.approx(41 / 40)
    assert outside["ratio_without_router"] == pytest.approx((42 - 0.6) / 40)
    assert "10.0% with its thumbnail, 6.0% with it outside, 4.0% the network alone" in both.table()


def ladder() -> BenchResult:
    steps = [0, 1, 1, 2]
    plain = {"640": 40.0, "512": 25.0, "448": 20.0}
    timings = {f"plain_{name}": timing([ms] * 4) for name, ms in plain.items()}
    timings |= {f"cond_{name}": timing([ms + 2] * 4, steps) for name, ms in plain.items()}
    timings["cond_mix"] = timing([42.0, 27.0, 27.0, 22.0], steps)
    timings |= {"router": timing([1.0] * 4), "router_network": timing([0.4] * 4)}
    for name in ("640", "512", "448", "mix"):
        timings[f"eager_{name}"] = timing([2 * t for t in timings[f"cond_{name}"].milliseconds], steps)
    shares, names = (0.25, 0.5, 0.25), ("640", "512", "448")
    memory = {"plain_640": {"now": 100.0, "peak": 120.0}, "cond": {"now": 105.0, "peak": 130.0}}
    return BenchResult(timings, shares, {"cond": 11.0}, memory, ["cond"], 4, 2, 640, (0.8, 0.7), names)


def test_several_sizes_are_compared_with_the_ideal_mix_of_them(tmp_path: Path) -> None:
    rows = {row["point"]: row for row in ladder().rows()}
    assert list(rows) == ["640", "512", "448", "mix"] and "paper_speedup" not in rows["mix"]
    ideal = 0.25 * 40 + 0.5 * 25 + 0.25 * 20
    assert rows["mix"]["ideal_ms"] == ideal and rows["mix"]["ms"] == pytest.approx(ideal + 2)
    assert rows["512"]["ratio"] == pytest.approx(27 / 25)
    assert rows["mix"]["ratio_without_router"] == pytest.approx((ideal + 1) / ideal)
    ladder().write(tmp_path)
    table = (tmp_path / "table.txt").read_text()
    assert "640 / 512 / 448 px" in table and "mixed are 25% / 50% / 25% of these photos" in table
    assert "router / 448 px pass: 5.0% with" in table and "all at 512 px" in table and "paper" not in table
    assert "/ plain 640" in table and "105.0     130.0         1.050" in table
    with (tmp_path / "times.csv").open() as file:
        assert [row["step_where_mixed"] for row in csv.DictReader(file) if row["case"] == "cond_mix"] == list("0112")
