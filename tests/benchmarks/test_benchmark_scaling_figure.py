import pytest

from benchmarks.scaling import fit_exponent
from benchmarks.scaling_figure import Curve, plot_scaling
from benchmarks.scaling_stages import MEMORY, SECONDS


def test_figure_names_curves_and_marks_steep_ones():
    curves = [
        Curve("scoring", "voxels", SECONDS, [1e5, 1e7], [0.1, 4.0], 0.8),
        Curve("sorting", "cases", SECONDS, [1, 10], [1.0, 100.0], 2.0),
        Curve("pipeline", "cases", MEMORY, [4, 256], [20.0, 20.0], 0.0),
        Curve("train step", "patches", SECONDS, [1, 8], [0.1, 0.8], 1.0),
    ]
    figure = plot_scaling(curves, max_exponent=1.1)
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
