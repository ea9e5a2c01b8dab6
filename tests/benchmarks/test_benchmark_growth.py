"""Growth: exponents of known curves, rows of stages, the figure, and collectives in a program."""

import json

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.growth import Curve, fit_curves, fit_exponent, run_growth
from benchmarks.growth_figure import plot_growth
from benchmarks.growth_stages import MEMORY, SECONDS, STAGES, measure_points
from benchmarks.traffic import Collective, find_collectives
from kitsjax.errors import InputError

PROGRAM = """HloModule step

%body (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %sum.1 = f32[2,2]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}

%all-reduce_of (p: f32[2]) -> f32[2] {
  ROOT %fusion.2 = f32[2]{0} fusion(%p), kind=kLoop
}

ENTRY %main.3 (p0: f32[1,4]) -> (f32[4]) {
  %all-reduce.1 = (f32[3,3]{1,0}, bf16[8]{0}, /*index=2*/f32[]) all-reduce(%a, %b, %c), channel_id=1
  %get-tuple-element.1 = f32[3,3]{1,0} get-tuple-element(%all-reduce.1), index=0
  %gathered = u8[16]{0} all-gather(%d), dimensions={0}
  %begun = f32[10]{0} all-reduce-start(%e), channel_id=2
  %done = f32[10]{0} all-reduce-done(%begun)
  ROOT %last = f32[4]{0} collective-permute(%f), source_target_pairs={{0,1}}
}
"""


def row(stage, size, value, cost=SECONDS):
    axis = STAGES[stage].axis
    return {"stage": stage, "axis": axis, "size": size, "cost": cost, "value": value}


def test_exponents_of_power_laws():
    sizes = np.array([2.0, 5.0, 40.0])
    for exponent in (0, 0.5, 1, 2):
        assert fit_exponent(sizes, 7 * sizes**exponent) == pytest.approx(exponent, abs=1e-12)


def test_curves_have_their_own_points_by_size():
    rows = [
        row("devices", 4, 8.0), row("devices", 4, 90.0, "bytes"), row("devices", 1, 2.0),
        row("devices", 1, 90.0, "bytes"), row("score", 10, 5.0), row("score", 100, 500.0),
    ]  # fmt: skip
    seconds, sent, score = fit_curves(rows)
    assert (seconds.sizes, seconds.values) == ([1, 4], [2.0, 8.0])
    assert (sent.cost, sent.values) == ("bytes", [90.0, 90.0])
    assert [round(c.exponent, 9) for c in (seconds, sent, score)] == [1, 0, 2]


def test_figure_names_every_curve_and_shows_which_is_too_steep():
    curves = [
        Curve("scoring", "voxels", SECONDS, [1e5, 1e7], [0.1, 4.0], 0.8),
        Curve("sorting", "cases", SECONDS, [1, 10], [1.0, 100.0], 2.0),
        Curve("pipeline", "cases", MEMORY, [4, 256], [20.0, 20.0], 0.0),
        Curve("train step", "patches", SECONDS, [1, 8], [0.1, 0.8], 1.0),
    ]
    figure = plot_growth(curves, most=1.1)
    panels = [axis for axis in figure.axes if axis.has_data()]
    assert [axis.get_title().splitlines()[0] for axis in panels] == [c.title for c in curves]
    colors = [axis.lines[1].get_color() for axis in panels]
    assert colors[1] != colors[0] == colors[2] == colors[3]
    for axis, curve in zip(panels, curves, strict=True):
        guide, measured = axis.lines
        assert measured.get_ydata().tolist() == curve.values
        assert fit_exponent(*guide.get_data()) == pytest.approx(1)
        low, high = axis.get_ylim()
        assert low < min(curve.values)
        assert high > max(guide.get_ydata())


def test_growth_is_written(tmp_path, monkeypatch):
    values = {"score": 1.0, "resample": 2.5}
    chosen = {name: STAGES[name] for name in values}
    monkeypatch.setattr(growth, "STAGES", chosen)
    monkeypatch.setattr(
        growth, "_measure",
        lambda stage, folder, sizes, logs: [row(stage, n, n ** values[stage]) for n in sizes],
    )  # fmt: skip
    said = []
    rows = run_growth(tmp_path / "out", tmp_path / "work", said.append)
    found = json.loads((tmp_path / "out" / "growth.json").read_text())
    assert found["points"] == rows
    linear = {curve["title"]: curve["linear"] for curve in found["curves"]}
    assert linear == {"scoring": True, "resampling": False}
    assert (tmp_path / "out" / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "** 2.50" in " ".join(said)


def test_a_stage_is_measured_at_the_sizes_asked_for(tmp_path):
    rows = measure_points("resample", tmp_path, [8, 16])
    assert [(r["size"], r["cost"]) for r in rows] == [(8**3, SECONDS), (16**3, SECONDS)]
    assert all(r["value"] > 0 for r in rows)


def test_a_stage_is_measured_in_a_process_of_its_own(tmp_path):
    rows = growth._measure("resample", tmp_path, [8], tmp_path)
    assert [r["size"] for r in rows] == [8**3]
    assert (tmp_path / "growth-resample.log").read_text() == ""


def test_a_stage_that_fails_says_why(tmp_path):
    with pytest.raises(InputError, match=r"growth of nothing: exit status 1 .*KeyError"):
        growth._measure("nothing", tmp_path, [1], tmp_path)


def test_collectives_are_found_with_their_bytes():
    assert find_collectives(PROGRAM) == [
        Collective("all-reduce", 16, in_loop=True),
        Collective("all-reduce", 36 + 16 + 4, in_loop=False),
        Collective("all-gather", 16, in_loop=False),
        Collective("all-reduce", 40, in_loop=False),
        Collective("collective-permute", 16, in_loop=False),
    ]
