"""The results of all folds where one of them has no score."""

from kitsjax.evaluate.results import Evaluation
from kitsjax.run_record import RunRecord
from kitsjax.train import fold_results
from kitsjax.train.fold_results import write_fold_results


def test_a_fold_without_scores_is_told(tmp_path, monkeypatch):
    """Its cases are missing, and the data set is that of the folds that have scores."""
    names = ["case_00000", "case_00001"]
    records = [RunRecord(settings="", versions={}, train=[], held_out=[name]) for name in names]
    (tmp_path / "fold_1" / "scores").mkdir(parents=True)

    class Row(tuple):
        case_id = "case_00001"

    scored, written = Evaluation(scores=(Row(),), dataset="data"), []
    monkeypatch.setattr(fold_results, "read_evaluation", lambda folder: scored)
    monkeypatch.setattr(fold_results, "write_evaluation", lambda _, found: written.append(found))
    for name in ("write_report", "score_table", "to_text"):
        monkeypatch.setattr(fold_results, name, lambda *_: "")
    assert write_fold_results(tmp_path, records) == ["case_00000: has no prediction"]
    (found,) = written
    assert (found.dataset, found.missing) == ("data", ("case_00000",))
    assert len(found.notes) == 2
