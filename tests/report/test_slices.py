from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from kitsjax.evaluate.results import Evaluation, Lesion, Score
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.labels import COLORS, CYST, EVALUATION_CLASSES, INDIVIDUAL, KIDNEY, MAJORITY, TUMOR
from kitsjax.report.drawing import save_drawing
from kitsjax.report.slices import Files, best_slice, plot_best, plot_worst, worst_slice

SHAPE, SPACING_MM = (6, 80, 100), (5.0, 2.0, 2.5)
DICE = {"case_00001": 0.2, "case_00002": 0.9, "case_00003": 0.5}


def block(value, z=2, y=30, x=40):
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[z, y : y + 12, x : x + 15] = value
    return label_map


def score_rows(dice, against=(MAJORITY,)):
    return tuple(
        Score(case_id, name, kind, 1, value, value, 5.0, 10.0, 10.0, 1)
        for kind in against
        for case_id, value in dice.items()
        for name in EVALUATION_CLASSES
    )


def lesion(case_id="case_00001", label="tumor", volume_cm3=3.0, outcome="missed", z=4):
    return Lesion(case_id, "truth", label, 1, volume_cm3, outcome, 0.1, 0.1, 0.1, z)


def save_case(folder, case_id, prediction, truth, image=True):
    geometry = kits_header(SHAPE, SPACING_MM)
    paths = [folder / f"{case_id}_{name}.nii.gz" for name in ("image", "prediction", "truth")]
    if image:
        write_volume(paths[0], np.full(SHAPE, 40.0, np.float32), geometry)
    write_label(paths[1], prediction, geometry)
    write_label(paths[2], truth, geometry)
    return Files(paths[0] if image else None, paths[1], paths[2])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three cases: tumor for tumor, kidney for cyst, and nothing for tumor."""
    folder = tmp_path_factory.mktemp("cases")
    pairs = ((TUMOR, TUMOR), (KIDNEY, CYST), (0, TUMOR))
    return {
        case_id: save_case(folder, case_id, block(predicted), block(true))
        for case_id, (predicted, true) in zip(sorted(DICE), pairs, strict=True)
    }


def panels(drawing):
    """{case id: (prediction's axes, truth's axes)}."""
    axes = drawing.figure.axes
    columns = len(axes) // 2
    return {
        above.get_title().split("\n")[0].split()[-1]: (above, below)
        for above, below in zip(axes[:columns], axes[columns:], strict=True)
    }


def hues(axis):
    """The labels whose hue an image shows: a label's channel is above both others."""
    image = np.asarray(axis.images[0].get_array())
    channel = {KIDNEY: 0, TUMOR: 1, CYST: 2}
    return {
        value
        for value, c in channel.items()
        if (image[..., c] > np.delete(image, c, axis=-1).max(-1) + 0.05).any()
    }


def test_predictions_stand_above_the_truth_in_the_colors_of_the_labels(files):
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
    assert styles.keys() == {to_rgb(color) for color in COLORS.values()}
    assert len(set.union(*styles.values())) == 3


def test_best_cases_come_first_and_worst_are_lettered(files):
    evaluation = Evaluation(score_rows(DICE))
    assert list(panels(plot_best(evaluation, files))) == ["case_00002", "case_00003", "case_00001"]
    worst = plot_worst(evaluation, files)
    titles = [axis.get_title() for axis in worst.figure.axes[:3]]
    assert [title[0] for title in titles] == ["A", "B", "C"]
    assert titles[0] == "A  case_00001\ntumor Dice 0.200"
    assert "A, case_00001, Dice 0.200: no failure." in worst.caption
    assert "3 of n = 3" in worst.caption


def test_ranking_is_by_the_majority_if_there_is_one(files):
    turned = {case: 1 - value for case, value in DICE.items()}
    individual = score_rows(turned, (INDIVIDUAL,))
    both = Evaluation(score_rows(DICE) + individual)
    assert next(iter(panels(plot_best(both, files)))) == "case_00002"
    alone = plot_best(Evaluation(individual), files)
    assert next(iter(panels(alone))) == "case_00001"
    assert "against the individual annotations" in alone.caption


def test_failure_modes_stand_in_the_caption(files):
    evaluation = Evaluation(score_rows(DICE), (), (lesion(),))
    assert "case_00001, Dice 0.200: tumor 3.0 cm³ missed." in plot_worst(evaluation, files).caption


def test_the_best_slice_shows_most_tumor_else_cyst_else_kidney():
    nothing = np.zeros(SHAPE, np.uint8)
    kidney, cyst, tumor = block(KIDNEY, z=1), block(CYST, z=3, y=60), block(TUMOR, z=5, x=70)
    assert best_slice(nothing, kidney) == 1
    assert best_slice(nothing, kidney | cyst) == 3
    assert best_slice(nothing, kidney | cyst | tumor) == 5
    assert best_slice(tumor, nothing) == 5
    assert best_slice(nothing, nothing) == 3
    tumor[2] = TUMOR
    assert best_slice(nothing, tumor) == 2


def test_the_worst_slice_is_that_of_the_largest_failure():
    truth = block(TUMOR, z=1)
    nothing = np.zeros(SHAPE, np.uint8)
    assert worst_slice(nothing, truth, []) == 1, "the most wrong voxels"
    assert worst_slice(truth, truth, []) == 1, "nothing is wrong"
    small, large = lesion(volume_cm3=1.0, z=3), lesion(volume_cm3=2.0, outcome="misclassified", z=4)
    assert worst_slice(nothing, truth, [small, large]) == 4
    assert worst_slice(nothing, truth, [small, lesion(volume_cm3=9.0, outcome="detected")]) == 3
    assert worst_slice(nothing, truth, [small, lesion(volume_cm3=9.0, label="cyst")]) == 3
    assert worst_slice(nothing, truth, [small, lesion(outcome="under-segmented")]) == 1
    assert worst_slice(nothing, truth, [lesion(z=99)]) == SHAPE[0] - 1


def test_views_hold_all_that_is_labeled_in_millimeters(tmp_path):
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


def test_rows_go_down_to_posterior_and_columns_to_the_left(tmp_path):
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


def test_without_a_ct_labels_are_drawn_on_gray_and_the_caption_says_so(files):
    without = files | {"case_00001": files["case_00001"]._replace(image=None)}
    drawing = plot_best(Evaluation(score_rows(DICE)), without)
    image = np.asarray(panels(drawing)["case_00001"][0].images[0].get_array())
    assert (image[0, 0] == 0.75).all()
    assert "On plain gray, case_00001: there is no CT." in drawing.caption


def test_files_that_have_gone_are_named_and_the_others_drawn(files, tmp_path):
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(files["case_00002"].prediction.read_bytes()[:90])
    mixed = {
        "case_00002": files["case_00002"]._replace(prediction=damaged),
        "case_00003": files["case_00003"],
    }
    drawing = plot_best(Evaluation(score_rows(DICE)), mixed)
    assert {case for case, pair in panels(drawing).items() if pair[0].images} == {"case_00003"}
    assert f"Not shown, case_00002: {damaged}" in drawing.caption
    assert "Not shown, case_00001: there is no file of it." in drawing.caption


def test_an_image_or_label_of_another_shape_is_not_drawn_over(files, tmp_path):
    other = tmp_path / "other.nii.gz"
    write_volume(other, np.zeros((2, 9, 9), np.float32), kits_header((2, 9, 9), SPACING_MM))
    evaluation = Evaluation(score_rows({"case_00001": 0.5}))
    no_image = {"case_00001": files["case_00001"]._replace(image=other)}
    assert "On plain gray, case_00001: " in plot_best(evaluation, no_image).caption
    no_truth = {"case_00001": files["case_00001"]._replace(truth=other)}
    drawing = plot_best(evaluation, no_truth)
    assert drawing.figure is None
    assert "differ" in drawing.caption


@pytest.mark.parametrize("plot", [plot_best, plot_worst])
def test_too_few_cases_are_said_and_do_not_fail(plot, files):
    assert plot(Evaluation()).figure is None
    assert plot(Evaluation()).caption.endswith("data set are not known.")
    nothing = plot(Evaluation(), {})
    assert nothing.figure is None
    assert nothing.caption == "No case was scored, so none can be shown."
    evaluation = Evaluation(score_rows(DICE))
    gone = plot(evaluation, {})
    assert gone.figure is None
    assert "Not shown" in gone.caption
    unknown = replace(evaluation, scores=tuple(s._replace(dice=np.nan) for s in evaluation.scores))
    assert plot(unknown, files).figure is None
    one = plot(Evaluation(score_rows({"case_00001": 0.5})), files)
    assert len(one.figure.axes) == 2
    assert "The case (n = 1) and " in one.caption
    for text in (one.title, one.caption):
        assert "best" not in text
        assert "worst" not in text


def test_without_files_those_that_were_scored_are_shown(files, tmp_path):
    dataset, predictions = tmp_path / "data", tmp_path / "predictions"
    for case_id, (image, prediction, truth) in files.items():
        for path, copy in (
            (image, dataset / case_id / "imaging.nii.gz"),
            (truth, dataset / case_id / "aggregated_MAJ_seg.nii.gz"),
            (prediction, predictions / f"{case_id}.nii.gz"),
        ):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    evaluation = Evaluation(score_rows(DICE), predictions=str(predictions), dataset=str(dataset))
    for plot in (plot_best, plot_worst):
        own, given = plot(evaluation), plot(evaluation, files)
        assert own[:3] == given[:3]
        assert len(own.figure.axes) == len(given.figure.axes) == 6
        gone = plot(replace(evaluation, dataset=str(tmp_path / "gone")))
        assert gone.figure is None
        assert gone.caption.startswith(f"Not drawn: {tmp_path / 'gone'}: no such data folder")


@pytest.mark.filterwarnings("error")
def test_a_name_that_is_no_formula_is_drawn(files, tmp_path):
    name = r"$\frac{x$"
    drawing = plot_best(Evaluation(score_rows({name: 0.5})), {name: files["case_00001"]})
    assert len(save_drawing(drawing, tmp_path)) == 2
    assert drawing.figure.axes[0].get_title().startswith(name)


def test_captions_hold_for_cases_without_a_tumor(files):
    drawing = plot_best(Evaluation(score_rows(DICE)), files)
    assert "each at the slice with most tumor, else most cyst, else most kidney" in drawing.caption


@pytest.mark.filterwarnings("error")
def test_empty_labels_are_drawn_and_equal_drawings_are_equal_bytes(files, tmp_path):
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
