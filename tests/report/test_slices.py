from dataclasses import replace

import numpy as np
import pytest
from example_cases import DICE, SPACING_MM, lesion, panels, score_rows

from kitsjax.evaluate.results import Evaluation
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_label, read_volume
from kitsjax.image.write_nifti import write_volume
from kitsjax.labels import INDIVIDUAL
from kitsjax.report.slices import plot_best, plot_worst


def test_best_come_first_and_worst_have_letters(files):
    evaluation = Evaluation(score_rows(DICE))
    assert list(panels(plot_best(evaluation, files))) == ["case_00002", "case_00003", "case_00001"]
    worst = plot_worst(evaluation, files)
    titles = [axis.get_title() for axis in worst.figure.axes[:3]]
    assert [title[0] for title in titles] == ["A", "B", "C"]
    assert titles[0] == "A  case_00001\ntumor Dice 0.200"
    assert "A, case_00001, Dice 0.200: no failure." in worst.caption
    assert "3 of n = 3" in worst.caption


def test_ranking_is_by_the_majority_if_known(files):
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


def test_missing_files_are_named_the_others_drawn(files, tmp_path):
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


@pytest.mark.parametrize("reader", ["read_label", "read_volume"])
def test_no_exception_takes_other_views_along(files, monkeypatch, caplog, reader):
    """The caption has the class, and the traceback is logged. Without its CT a case is on gray."""
    real = {"read_label": read_label, "read_volume": read_volume}[reader]
    bad = {"read_label": "prediction", "read_volume": "image"}[reader]

    def failing(path, *labels):
        if path == getattr(files["case_00002"], bad):
            raise KeyError("no such unit")
        return real(path, *labels)

    monkeypatch.setattr(f"kitsjax.report.views.{reader}", failing)
    drawing = plot_best(Evaluation(score_rows(DICE)), files)
    begin = "Not shown" if bad == "prediction" else "On plain gray"
    reason = f"{getattr(files['case_00002'], bad)}: KeyError: 'no such unit'"
    assert f"{begin}, case_00002: {reason}." in drawing.caption
    shown = {case for case, pair in panels(drawing).items() if pair[0].images}
    assert shown == {"case_00001", "case_00003"} | ({"case_00002"} if bad == "image" else set())
    (message,) = caplog.messages
    assert message.startswith(f"{reason}\nTraceback")
    assert "in failing" in message


def test_files_of_another_shape_are_not_drawn(files, tmp_path):
    """A CT of another shape leaves gray; a truth of another shape leaves no view."""
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


def test_scored_files_are_the_default(files, tmp_path):
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


def test_captions_hold_for_cases_without_a_tumor(files):
    drawing = plot_best(Evaluation(score_rows(DICE)), files)
    assert "each at the slice with most tumor, else most cyst, else most kidney" in drawing.caption
