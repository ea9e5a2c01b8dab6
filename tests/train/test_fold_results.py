"""The results of all folds where one of them, or one of its cases, has no score."""

import pytest

from kitsjax.evaluate.results import Evaluation, Failure
from kitsjax.run_record import RunRecord
from kitsjax.train import fold_results
from kitsjax.train.fold_results import write_fold_results


class Row(tuple):
    case_id = "case_00001"


def test_a_fold_without_scores_is_told(tmp_path, monkeypatch):
    """Its cases are missing, and the data set is that of the folds that have scores."""
    names = ["case_00000", "case_00001"]
    records = [RunRecord(settings="", versions={}, train=[], held_out=[name]) for name in names]
    (tmp_path / "fold_1" / "scores").mkdir(parents=True)
    scored, written = Evaluation(scores=(Row(),), dataset="data"), []
    monkeypatch.setattr(fold_results, "read_evaluation", lambda folder: scored)
    monkeypatch.setattr(fold_results, "write_evaluation", lambda _, found: written.append(found))
    for name in ("write_report", "score_table", "to_text"):
        monkeypatch.setattr(fold_results, name, lambda *_: "")
    assert write_fold_results(tmp_path, records) == ["case_00000: has no prediction"]
    (found,) = written
    assert (found.dataset, found.missing) == ("data", ("case_00000",))
    assert len(found.notes) == 2


@pytest.mark.parametrize("links", [True, False])
def test_masks_of_an_earlier_model_have_no_link(tmp_path, monkeypatch, links):
    """A case that could not be predicted again keeps its mask, and has no score."""
    names = ["case_00000", "case_00001"]
    record = RunRecord(settings="", versions={}, train=[], held_out=names)
    (tmp_path / "fold_0" / "scores").mkdir(parents=True)
    for folder in (tmp_path / "fold_0" / "predictions", tmp_path / "predictions"):
        folder.mkdir()
    for name in names:
        mask = tmp_path / "fold_0" / "predictions" / f"{name}.nii.gz"
        mask.touch()
    # As a prediction before has left them, on disks with and without links.
    link, other = (tmp_path / "predictions" / f"{name}.nii.gz" for name in names)
    if links:
        link.symlink_to(tmp_path / "fold_0" / "predictions" / link.name)
        other.symlink_to(tmp_path / "fold_0" / "predictions" / other.name)
    else:
        link.touch()
        other.touch()
    failed = Failure(names[0], f"{names[0]}: cannot read")
    found = Evaluation(scores=(Row(),), failures=(failed,))
    monkeypatch.setattr(fold_results, "read_evaluation", lambda folder: found)
    for name in ("write_evaluation", "write_report", "score_table", "to_text"):
        monkeypatch.setattr(fold_results, name, lambda *_: "")
    assert write_fold_results(tmp_path, [record]) == [failed.message]
    assert list((tmp_path / "predictions").iterdir()) == [other]
    assert other.samefile(tmp_path / "fold_0" / "predictions" / other.name)
