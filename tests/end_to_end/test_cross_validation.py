"""Cross-validation as a user runs it: two folds of the tiny run, their results and their models."""

import nibabel
import numpy as np
import pytest
from tiny_run import predict, run, write_tiny_settings

from kitsjax.data.split import read_splits
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.run_record import read_record

pytestmark = pytest.mark.slow

SMALL = [
    "data.folds=2", "train.epochs=1", "sampling.patch_shape=[8, 8, 8]", "network.features=2",
    "network.deep_supervision=1", "augment.rotate=0", "augment.scale=0",
    "train.threshold_baseline=false", "run.cpu_devices=1",
]  # fmt: skip


def train(folder, *words):
    overrides = [word for setting in SMALL for word in ("--set", setting)]
    return run("train", "--config", folder / "tiny.toml", *overrides, *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both folds trained: the first alone; of all the second fails once, and is trained then."""
    folder = tmp_path_factory.mktemp("folds")
    write_tiny_settings(folder)
    first = train(folder, "--fold", "0")
    assert first.returncode == 0, first.stderr
    assert "1 of 2 folds are finished" in first.stdout
    assert not (folder / "run" / "scores").exists()
    (folder / "run" / "fold_1").write_text("in the way")
    second = train(folder, "--fold", "all", "--resume")
    assert second.returncode == 2
    failed = [line for line in second.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert failed[0].startswith(f"failed: fold 1: {folder / 'run' / 'fold_1'}")
    (folder / "run" / "fold_1").unlink()
    third = train(folder, "--fold", "all", "--resume")
    assert third.returncode == 0, third.stderr
    for done in (second, third):
        assert f"finished, and skipped: {folder / 'run' / 'fold_0'}" in done.stdout
    assert "Out-of-fold scores: each case is scored once" in third.stdout
    return folder


def test_each_case_is_scored_by_the_other_fold(folder):
    out = folder / "run"
    folds = read_splits(out / "splits_final.json")
    found, notes = read_evaluation(out / "scores"), []
    assert found.case_ids == ["case_00000", "case_00001", "case_00002"]
    for number, fold in enumerate(folds):
        record = read_record(out / f"fold_{number}")
        assert (tuple(record.train), tuple(record.held_out)) == (fold.train, fold.held_out)
        own = read_evaluation(out / f"fold_{number}" / "scores")
        assert [s for s in found.scores if s.case_id in fold.held_out] == list(own.scores)
        for case_id in fold.held_out:
            mask = out / "predictions" / f"{case_id}.nii.gz"
            assert mask.is_symlink()
            assert mask.samefile(out / f"fold_{number}" / "predictions" / mask.name)
        notes.append(own.notes)
    page = (out / "report" / "report.html").read_text()
    assert "Best epoch chosen by the pseudo-Dice of the held-out cases" in page
    assert "each case is scored once, predicted by that of 2 models" in page
    assert notes[0] == notes[1] == found.notes[1:]


def test_what_is_finished_is_not_made_again(folder):
    out = folder / "run"
    made = [*out.glob("fold_*/model.safetensors"), *out.glob("fold_*/scores/*.csv")]
    before = {path: path.stat().st_mtime_ns for path in made}
    again = train(folder, "--fold", "all", "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished, and skipped") == 2
    assert {path: path.stat().st_mtime_ns for path in made} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fold", "all"], "already holds a run; add --resume"),
        (["--fold", "2"], "--fold 2: give a fold from 0 to 1, or all"),
        (["--fold", ""], "--fold '': give a fold from 0 to 1, or all"),
        (["--fold", "1", "--resume", "--set", "data.split_seed=1"], "data.split_seed = 0, not 1"),
        (["--resume"], "run: holds a cross-validation; add --fold, or choose another folder"),
        (["--fold", "0", "--set", "data.folds=0"], "--fold: there are no folds"),
    ],
)
def test_mistakes_are_one_line(folder, words, message):
    done = train(folder, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_folds_predict_together(folder, tmp_path):
    """The note counts them; their probabilities are the mean of both."""
    ct = folder / "data" / "phantom" / "case_00000" / "imaging.nii.gz"

    def probabilities(name, *models):
        output = tmp_path / name
        done = predict("--model", *models, "--input", ct, "--output", output, "--probabilities")
        assert done.returncode == 0, done.stderr
        (path,) = output.glob("*_probabilities.nii.gz")
        return np.asanyarray(nibabel.load(path).dataobj), done.stderr

    out = folder / "run"
    both, told = probabilities("both", out)
    assert f"note: {out}: averages the models of 2 folds" in told
    alone = [probabilities(f"{k}", out / f"fold_{k}")[0] for k in (0, 1)]
    np.testing.assert_allclose(both, np.mean(alone, 0), atol=1e-5)


def test_too_few_cases_choose_no_step(folder):
    """Nothing is stored then, though it is asked for."""
    models = sorted((folder / "run").glob("fold_*/model.safetensors"))
    before = [path.read_bytes() for path in models]
    assert len(before) == 2
    done = run("postprocess", "--run", folder / "run", "--workers", "1", "--apply")
    assert done.returncode == 0, done.stderr
    assert "tried on 3 held-out cases" in done.stdout
    assert "no step is chosen: 3 cases are too few to tell from chance" in done.stdout
    assert [path.read_bytes() for path in models] == before
    assert [read_record(path.parent).stage for path in models] == ["finished"] * 2
