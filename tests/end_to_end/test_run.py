"""bin/train.py, bin/preprocess.py and bin/predict.py as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import time
import tomllib

import nibabel as nib
import numpy as np
import pytest
from tiny_run import BATCHES, EPOCHS, command, environment, predict, run

from kitsjax.run_lock import lock_folder
from kitsjax.training_log import read_epochs, read_rows

pytestmark = pytest.mark.slow


def losses(folder):
    rows = read_rows(folder / "metrics.jsonl")
    steps = [(r["step"], r["loss"], r["grad_norm"]) for r in rows if r["kind"] == "step"]
    epochs = [
        (r["epoch"], r["train_loss"], r["validation_loss"], r["pseudo_dice_average"])
        for r in rows
        if r["kind"] == "epoch"
    ]
    return steps, epochs


def test_run_folder_holds_what_it_promises(finished):
    folder, printed = finished
    out = folder / "run"
    held_out = json.loads((out / "split.json").read_text())["held_out"]
    assert {p.name for p in out.iterdir()} >= {
        "settings.toml", "split.json", "versions.json", "metrics.jsonl", "tensorboard",
        "progress.png", "checkpoints", "predictions", "scores", "report", "summary.json",
        "model.safetensors",
    }  # fmt: skip
    assert tomllib.loads((out / "settings.toml").read_text())["train"]["epochs"] == EPOCHS
    assert [p.name for p in (out / "predictions").iterdir()] == [f"{held_out[0]}.nii.gz"]
    assert (out / "scores/scores.csv").read_text().splitlines()[1].startswith(held_out[0])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["epochs"] == EPOCHS
    assert set(summary["classes"]) == {"kidney_and_mass", "mass", "tumor"}
    assert set(summary["classes"]["tumor"]) == {"dice", "surface_dice"}
    assert set(summary["best_hu_threshold"]) == set(summary["classes"])
    for words in ("parameters", "GFLOP", "Kidney + Masses", "best HU threshold", str(out)):
        assert words in printed


def test_mask_has_its_cts_exact_geometry(held_out):
    mask, ct = map(nib.load, held_out)
    assert mask.shape == ct.shape
    assert (mask.affine == ct.affine).all()
    assert mask.get_data_dtype() == np.uint8


def test_training_learns(finished):
    steps, _ = losses(finished[0] / "run")
    assert [s[0] for s in steps] == list(range(1, EPOCHS * BATCHES + 1))
    assert np.mean([s[1] for s in steps[-4:]]) < np.mean([s[1] for s in steps[:4]]) - 0.05


def test_second_run_keeps_the_first(finished):
    folder, _ = finished
    again = run("train", "--config", folder / "tiny.toml")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_second_start_says_whose_run_it_is(finished, tmp_path):
    folder, _ = finished
    with lock_folder(tmp_path / "run"):
        again = run(
            "train", "--config", folder / "tiny.toml", "--set", f"run.folder={tmp_path}/run",
            "--resume",
        )  # fmt: skip
        assert again.returncode == 2
        assert f"process {os.getpid()} on" in again.stderr
        assert len(again.stderr.splitlines()) == 1
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock.json"]
    assert not (folder / "run" / "lock.json").exists(), "a run that ends removes its lock"


def test_preprocessing_is_not_repeated(finished, run_here):
    data = run_here("preprocess", "--config", finished[0] / "tiny.toml")
    assert data.returncode == 0
    assert "0 cases made, 3 up to date" in data.stdout


def test_resume_of_a_finished_run_scores_again(finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    scores = tmp_path / "run" / "scores/scores.csv"
    before = scores.read_text()
    scores.unlink()
    done = run(
        "train", "--config", folder / "tiny.toml", "--set", f"run.folder={tmp_path}/run", "--resume"
    )
    assert done.returncode == 0, done.stderr
    assert scores.read_text() == before


def test_resume_with_other_settings_is_refused(finished):
    folder, _ = finished
    done = run(
        "train", "--config", folder / "tiny.toml", "--resume",
        "--set", "optimizer.learning_rate=0.5",
    )  # fmt: skip
    assert done.returncode == 2
    assert "optimizer.learning_rate = 0.3, not 0.5" in done.stderr


def interrupt(out, arguments, number):
    """Start or resume a run and send it a signal once it has logged another epoch.

    The steps of an epoch reach the log when it ends, while its checkpoint is still to be written.
    Returns the exit status and what was printed.
    """

    def count():
        return len(read_epochs(out / "metrics.jsonl"))

    before, until = count(), time.monotonic() + 300
    with (out.parent / "interrupted.log").open("w+") as log:
        job = subprocess.Popen(
            command("train", *arguments), env=environment(), stdout=log, stderr=log
        )
        while count() <= before:
            assert job.poll() is None, f"the run ended too early, exit status {job.returncode}"
            assert time.monotonic() < until, "the run took too long"
            time.sleep(0.01)
        job.send_signal(number)
        status = job.wait(timeout=120)
        log.seek(0)
        return status, log.read()


def test_interrupted_run_is_bit_identical(finished, tmp_path):
    """Killed in its first epochs, stopped within an epoch and killed again, it ends as unbroken."""
    folder, _ = finished
    out = tmp_path / "run"
    arguments = ("--config", folder / "tiny.toml", "--set", f"run.folder={out}")
    status, _ = interrupt(out, arguments, signal.SIGKILL)
    assert status == -signal.SIGKILL

    status, printed = interrupt(out, (*arguments, "--resume"), signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "--resume" in printed
    saved = max(int(p.name) for p in (out / "checkpoints").iterdir() if p.name.isdigit())
    steps, epochs = losses(out)
    assert steps[-1][0] == saved, "a step was done but not saved"
    assert len(epochs) >= 2

    status, _ = interrupt(out, (*arguments, "--resume"), signal.SIGKILL)
    assert status == -signal.SIGKILL
    done = run("train", *arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(folder / "run")
    scores = [run_folder / "scores/scores.csv" for run_folder in (out, folder / "run")]
    assert scores[0].read_text() == scores[1].read_text()


def test_loss_that_is_not_finite_is_explained(finished, tmp_path):
    """The message names the step, the cases and the checkpoint: here one case holds no numbers."""
    folder, _ = finished
    shutil.copytree(folder / "data" / "preprocessed" / "phantom", tmp_path / "preprocessed")
    bad = json.loads((folder / "run" / "split.json").read_text())["train"][0]
    (path,) = (tmp_path / "preprocessed").glob(f"*/{bad}-*/image.npy")
    np.load(path, mmap_mode="r+")[:] = np.nan
    done = run(
        "train", "--config", folder / "tiny.toml", "--set", f"run.folder={tmp_path}/diverged",
        "--set", f"data.cache={tmp_path}/preprocessed",
    )  # fmt: skip
    assert done.returncode == 2
    message = done.stderr.splitlines()[-1]
    for words in ("at step", bad, "last good checkpoint", "learning_rate"):
        assert words in message
    assert "Traceback" not in done.stderr


def test_predict_gives_the_runs_own_masks(finished, held_out, tmp_path):
    (folder, _), (mask, ct) = finished, held_out
    done = predict("--model", folder / "run", "--output", tmp_path, "--input", ct)
    assert done.returncode == 0, done.stderr
    ours = nib.load(tmp_path / mask.name)
    assert (np.asarray(ours.dataobj) == np.asarray(nib.load(mask).dataobj)).all()


def test_predict_goes_on_past_a_bad_file(finished, tmp_path):
    folder, _ = finished
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "a.nii.gz").write_text("not a volume")
    source = folder / "data" / "phantom" / "case_00000" / "imaging.nii.gz"
    (inputs / "b.nii.gz").write_bytes(source.read_bytes())
    done = predict(
        "--model", folder / "run/model.safetensors", "--input", inputs,
        "--output", tmp_path / "some", "--set", "predict.mirror=true",
    )  # fmt: skip
    assert done.returncode == 2
    assert [p.name for p in (tmp_path / "some").iterdir()] == ["b.nii.gz"]
    assert "a.nii.gz" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
