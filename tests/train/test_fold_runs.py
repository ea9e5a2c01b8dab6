"""Folds that are finished: which of them are skipped when all are resumed."""

import shutil

import pytest

from kitsjax.config import load_settings, override_settings, to_toml
from kitsjax.data.folds import fold_folder
from kitsjax.errors import InputError
from kitsjax.evaluate.write_results import FILE_NAMES
from kitsjax.infer.bundle import BUNDLE_NAME, read_bundle, save_bundle
from kitsjax.infer.packaged_models import locate_model
from kitsjax.infer.postprocess import CHOICE
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
        shutil.copy(locate_model("synthetic"), fold_folder(tmp_path, fold) / BUNDLE_NAME)
    gone_on, written = [], []
    monkeypatch.setattr(fold_runs, "start_devices", lambda *_, **__: None)
    monkeypatch.setattr(
        fold_runs, "write_fold_results", lambda _, records: written.append(len(records)) or []
    )
    monkeypatch.setattr(
        fold_runs, "run_together", lambda own, *_: gone_on.append(own.data.fold) or 0
    )

    def resume(*overrides):
        gone_on.clear()
        assert run_folds(settings(*overrides), "all", resume=True) == 0
        return list(gone_on)

    resume.written = written
    return resume


def test_finished_folds_are_skipped(resume, tmp_path):
    assert resume() == resume("data.workers=1") == []
    path = fold_folder(tmp_path, 1)
    record = fold_runs.read_record(path)
    write_record(path, record.model_copy(update={"stage": "predicting"}))
    assert resume() == [1]


def test_a_folder_with_a_run_takes_no_folds(resume, tmp_path):
    """Their scores would replace the run's, or the other way round."""
    record = fold_runs.read_record(fold_folder(tmp_path, 0))
    write_record(tmp_path, record)
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "scores.csv").touch()
    with pytest.raises(InputError, match=r"holds a run without folds.*choose another folder"):
        resume()
    assert (tmp_path / "scores" / "scores.csv").exists()


def test_a_fold_without_its_model_goes_on(resume, tmp_path):
    """The model is made again from the checkpoints, also one that is damaged."""
    path = fold_folder(tmp_path, 1) / BUNDLE_NAME
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert resume() == [1]
    path.unlink()
    assert resume() == [1]
    path.write_bytes(content)
    assert resume() == []


def test_results_of_earlier_masks_are_removed(resume, tmp_path, capsys):
    """They would lie beside masks that they are not of, where a fold failed or was made anew."""
    settings = load_settings(overrides=[f"run.folder={tmp_path}", "data.folds=2"])
    path, names = fold_folder(tmp_path, 1), ("report.html", "table_1.csv", "figure_4_boxes.png")
    record = fold_runs.read_record(path)
    other = record.settings.replace("step_size = 0.5", "step_size = 1.0")
    made = [tmp_path / "scores" / name for name in FILE_NAMES]
    made += [tmp_path / "report" / name for name in names]
    told = f"earlier scores and report of all cases are removed: {tmp_path}"
    for changed in ({"stage": "predicting"}, {"settings": other}):
        write_record(path, record)
        for file in (*made, tmp_path / "scores" / "mine.txt"):
            file.parent.mkdir(exist_ok=True)
            file.touch()
        fold_runs._write_results(settings)
        assert all(file.exists() for file in made), "both folds are finished"
        write_record(path, record.model_copy(update=changed))
        for printed in (True, False):
            fold_runs._write_results(settings)
            assert (told in capsys.readouterr().out) == printed
        assert list(tmp_path.glob("scores/*")) == [tmp_path / "scores" / "mine.txt"]
        assert list(tmp_path.glob("report/*")) == []


def test_folds_of_another_choice_are_kept_apart(resume, tmp_path, capsys):
    """What bin/postprocess.py chose for one fold alone is in its model, not in its settings."""
    settings = load_settings(overrides=[f"run.folder={tmp_path}", "data.folds=2"])
    folder = fold_folder(tmp_path, 1)
    bundle = read_bundle(folder)
    origin = {CHOICE: {"steps": {"largest_components": 2}}}
    save_bundle(folder / BUNDLE_NAME, bundle.params, bundle.settings, origin)
    fold_runs._write_results(settings)
    told = "not put together: predict.largest_components is 0 in fold 0 and 2 in fold 1;"
    assert told in capsys.readouterr().out
    (folder / BUNDLE_NAME).unlink()
    fold_runs._write_results(settings)
    assert f"not put together: {folder}: holds no {BUNDLE_NAME};" in capsys.readouterr().out
    assert resume.written == []


def test_other_settings_of_prediction_go_on(resume):
    """A run without folds predicts its held-out cases anew then."""
    assert resume("predict.least_lesion_ml=0.1") == [0, 1]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("predict.step_size=1.0", "predict.step_size is 0.5 in fold 0 and 1.0 in fold 1"),
        ("train.epochs=7", "train.epochs is 1000 in fold 0 and 7 in fold 1"),
    ],
)
def test_folds_that_differ_are_not_put_together(resume, tmp_path, capsys, override, told):
    """Their scores would be those of no model; what changes no number may differ."""
    path = fold_folder(tmp_path, 1)
    record = fold_runs.read_record(path)

    def change(*overrides):
        own = override_settings(load_settings(path / "settings.toml"), overrides)
        write_record(path, record.model_copy(update={"settings": to_toml(own)}))

    (path / "settings.toml").write_text(record.settings)
    change("network.remat=true", "predict.bucket=64", "train.init_from=synthetic")
    fold_runs._write_results(load_settings(overrides=[f"run.folder={tmp_path}", "data.folds=2"]))
    assert resume.written == [2]
    change(override)
    fold_runs._write_results(load_settings(overrides=[f"run.folder={tmp_path}", "data.folds=2"]))
    assert resume.written == [2]
    assert f"their scores are not put together: {told};" in capsys.readouterr().out
