"""Folds that are finished: which of them are skipped when all are resumed."""

import pytest

from kitsjax.config import load_settings, to_toml
from kitsjax.data.folds import fold_folder
from kitsjax.run_record import RunRecord, write_record
from kitsjax.train import fold_runs
from kitsjax.train.fold_runs import run_folds


@pytest.fixture
def resume(tmp_path, monkeypatch):
    """Resume two finished folds with such settings; it returns the folds that go on."""

    def settings(*overrides):
        return load_settings(overrides=[f"run.folder={tmp_path}", "data.folds=2", *overrides])

    for fold in range(2):
        own = fold_runs._choose_fold(settings(), fold)
        record = RunRecord(
            stage="finished", settings=to_toml(own), versions={}, train=[], held_out=[]
        )
        write_record(fold_folder(tmp_path, fold), record)
    gone_on = []
    monkeypatch.setattr(fold_runs, "start_devices", lambda *_, **__: None)
    monkeypatch.setattr(fold_runs, "write_fold_results", lambda *_: [])
    monkeypatch.setattr(
        fold_runs, "run_together", lambda own, *_: gone_on.append(own.data.fold) or 0
    )

    def resume(*overrides):
        gone_on.clear()
        assert run_folds(settings(*overrides), "all", resume=True) == 0
        return list(gone_on)

    return resume


def test_finished_folds_are_skipped(resume, tmp_path):
    assert resume() == resume("data.workers=1") == []
    path = fold_folder(tmp_path, 1)
    record = fold_runs.read_record(path)
    write_record(path, record.model_copy(update={"stage": "predicting"}))
    assert resume() == [1]


def test_other_settings_of_prediction_go_on(resume):
    """A run without folds predicts its held-out cases anew then."""
    assert resume("predict.least_lesion_ml=0.1") == [0, 1]
