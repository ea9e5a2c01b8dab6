import numpy as np
import pytest
from example_cases import DICE, SHAPE, SPACING_MM, block, panels, save_case, score_rows
from matplotlib.colors import to_rgb

from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR
from kitsjax.report.drawing import save_drawing
from kitsjax.report.slices import plot_best, plot_worst


def hues(axis):
    """The labels whose hue an image shows: a label's channel is above both others."""
    image = np.asarray(axis.images[0].get_array())
    channel = {KIDNEY: 0, TUMOR: 1, CYST: 2}
    return {
        value
        for value, c in channel.items()
        if (image[..., c] > np.delete(image, c, axis=-1).max(-1) + 0.05).any()
    }


def test_predictions_stand_above_the_truth(files):
    """The hues are those of the labels."""
    drawing = plot_best(Evaluation(score_rows(DICE)), files)
    shown = {case: tuple(map(hues, pair)) for case, pair in panels(drawing).items()}
    assert shown == {
        "case_00002": ({KIDNEY}, {CYST}),
        "case_00003": (set(), {TUMOR}),
        "case_00001": ({TUMOR}, {TUMOR}),
    }


def test_labels_are_outlined_by_different_lines(files):
    styles = {}
    for pair in panels(plot_best(Evaluation(score_rows(DICE)), files)).values():
        for axis in pair:
            for outline in axis.collections:
                color = tuple(outline.get_edgecolor()[0][:3])
                styles.setdefault(color, set()).add(str(outline.get_linestyle()))
    assert styles.keys() == {to_rgb(color) for color in KITS.colors}
    assert len(set.union(*styles.values())) == 3


def test_down_is_posterior_and_right_is_left(tmp_path):
    """The right side of the image is the patient's left."""
    truth = block(TUMOR, y=5, x=80)  # anterior, and to the patient's left
    files = {"case_00001": save_case(tmp_path, "case_00001", truth, truth)}
    drawing = plot_best(Evaluation(score_rows({"case_00001": 0.5})), files)
    for axis in drawing.figure.axes:
        assert axis.yaxis_inverted()
        assert not axis.xaxis_inverted()
        image = np.asarray(axis.images[0].get_array())
        green = np.argwhere(image[..., 1] > image[..., 0] + 0.1)
        y, x = green.mean(axis=0) / image.shape[:2]
        assert y < 0.5 < x


def test_panels_hold_all_labels_in_millimeters(tmp_path):
    # 6 mm of tumor in the truth's corner, and a kidney that is predicted far away on another slice.
    truth, prediction = block(TUMOR, y=0, x=0), block(KIDNEY, z=4, y=68, x=85)
    files = {"case_00001": save_case(tmp_path, "case_00001", prediction, truth)}
    above, below = panels(plot_best(Evaluation(score_rows({"case_00001": 0.5})), files))[
        "case_00001"
    ]
    for axis in (above, below):
        left, right, bottom, top = axis.images[0].get_extent()
        assert right - left >= SHAPE[2] * SPACING_MM[2]
        assert bottom - top >= SHAPE[1] * SPACING_MM[1]
        rows, columns = axis.images[0].get_array().shape[:2]
        np.testing.assert_allclose((bottom / rows, right / columns), SPACING_MM[1:])
        assert axis.get_aspect() == 1
        (bar,) = (line for line in axis.get_lines() if line.get_color() == "white")
        assert np.ptp(bar.get_xdata()) == 50
    assert above.images[0].get_extent() == below.images[0].get_extent()


def test_without_a_ct_labels_are_drawn_on_gray(files):
    without = files | {"case_00001": files["case_00001"]._replace(image=None)}
    drawing = plot_best(Evaluation(score_rows(DICE)), without)
    image = np.asarray(panels(drawing)["case_00001"][0].images[0].get_array())
    assert (image[0, 0] == 0.75).all()
    assert "On plain gray, case_00001: there is no CT." in drawing.caption


@pytest.mark.filterwarnings("error")
def test_a_name_that_is_no_formula_is_drawn(files, tmp_path):
    name = r"$\frac{x$"
    drawing = plot_best(Evaluation(score_rows({name: 0.5})), {name: files["case_00001"]})
    assert len(save_drawing(drawing, tmp_path)) == 2
    assert drawing.figure.axes[0].get_title().startswith(name)


@pytest.mark.filterwarnings("error")
def test_equal_panels_are_equal_bytes(files, tmp_path):
    """A case without any label is drawn, too."""
    nothing = np.zeros(SHAPE, np.uint8)
    empty = save_case(tmp_path, "case_00001", nothing, nothing)
    written = [
        save_drawing(
            plot_worst(Evaluation(score_rows(DICE)), files | {"case_00001": empty}), tmp_path / name
        )
        for name in "ab"
    ]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert [path.suffix for path in written[0]] == [".png", ".pdf"]
