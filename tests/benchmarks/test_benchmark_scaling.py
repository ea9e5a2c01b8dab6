import json

import numpy as np
import pytest

from benchmarks import scaling
from benchmarks.scaling import fit_curves, fit_exponent, run_scaling
from benchmarks.scaling_stages import SECONDS, STAGES, Point
from kitsjax.errors import InputError


def point(stage, size, value, cost=SECONDS):
    return Point(stage=stage, axis=STAGES[stage].axis, size=size, cost=cost, value=value)


def test_exponents_of_power_laws():
    sizes = np.array([2.0, 5.0, 40.0])
    for exponent in (0, 0.5, 1, 2):
        assert fit_exponent(sizes, 7 * sizes**exponent) == pytest.approx(exponent, abs=1e-12)


def test_curves_have_their_own_points_by_size():
    points = [
        point("devices", 4, 8.0), point("devices", 4, 90.0, "bytes"), point("devices", 1, 2.0),
        point("devices", 1, 90.0, "bytes"), point("score", 10, 5.0), point("score", 100, 500.0),
    ]  # fmt: skip
    seconds, sent, score = fit_curves(points)
    assert (seconds.sizes, seconds.values) == ([1, 4], [2.0, 8.0])
    assert (sent.cost, sent.values) == ("bytes", [90.0, 90.0])
    assert [round(c.exponent, 9) for c in (seconds, sent, score)] == [1, 0, 2]


def test_points_curves_and_figure_are_written(tmp_path, monkeypatch, capsys):
    exponents = {"score": 1.0, "resample": 2.5}
    monkeypatch.setattr(scaling, "STAGES", {name: STAGES[name] for name in exponents})
    monkeypatch.setattr(
        scaling, "_measure",
        lambda stage, _, sizes, logs: [point(stage, n, n ** exponents[stage]) for n in sizes],
    )  # fmt: skip
    run_scaling(tmp_path / "out", tmp_path / "work")
    found = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert found["points"] == [
        point(stage, n, n**exponent)
        for stage, exponent in exponents.items()
        for n in STAGES[stage].parameters
    ]
    linear = {curve["title"]: curve["linear"] for curve in found["curves"]}
    assert linear == {"scoring": True, "resampling": False}
    assert (tmp_path / "out" / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "** 2.50" in capsys.readouterr().out


def test_a_stage_is_measured_in_its_own_process(tmp_path):
    points = scaling._measure("resample", tmp_path, [8], tmp_path)
    assert [p["size"] for p in points] == [8**3]
    assert (tmp_path / "scaling-resample.log").read_text() == ""


def test_a_stage_that_fails_says_why(tmp_path):
    with pytest.raises(InputError, match=r"scaling of nothing: exit status 1 .*KeyError"):
        scaling._measure("nothing", tmp_path, [1], tmp_path)
