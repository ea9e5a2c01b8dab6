"""bin/train.py, bin/preprocess.py and bin/predict.py as a user runs them."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import tomllib

import jax
import nibabel as nib
import numpy as np
import pytest
from tiny_run import BATCHES, EPOCHS, command, environment, predict, run

import kitsjax as kj
from kitsjax.config import load_settings
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.infer.bundle import load_model, read_bundle
from kitsjax.prepare import fill_intensities
from kitsjax.run_lock import lock_folder
from kitsjax.run_record import read_record, write_record
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
        "run.json", "settings.toml", "split.json", "metrics.jsonl", "tensorboard",
        "progress.png", "checkpoints", "predictions", "scores", "report", "summary.json",
        "model.safetensors", "profile",
    }  # fmt: skip
    settings = tomllib.loads((out / "settings.toml").read_text())
    assert settings["train"]["epochs"] == EPOCHS
    assert settings["run"]["profile_steps"] == 0, "no other start with these settings is traced"
    assert read_bundle(out).settings.run.profile_steps == 0
    assert f"\ntrace of steps 4 to 5: {out.resolve()}/profile/" in printed
    assert [p.name for p in (out / "predictions").iterdir()] == [f"{held_out[0]}.nii.gz"]
    assert (out / "scores/scores.csv").read_text().splitlines()[1].startswith(held_out[0])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["epochs"] == EPOCHS
    assert set(summary["classes"]) == {"kidney_and_mass", "mass", "tumor"}
    assert set(summary["classes"]["tumor"]) == {"dice", "surface_dice"}
    assert set(summary["best_hu_threshold"]) == set(summary["classes"])
    for words in (
        "parameters",
        "temporary memory",
        "Kidney + Masses",
        "best HU threshold",
        str(out),
    ):
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


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, and the arguments that resume it."""
    folder, _ = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    arguments = "--config", folder / "tiny.toml", "--set", f"run.folder={tmp_path}/run", "--resume"
    return tmp_path / "run", arguments


def test_a_finished_run_is_not_done_again(copied):
    out, arguments = copied
    made = sorted(p for name in ("predictions", "scores", "report") for p in out.glob(f"{name}/*"))
    before = [path.stat().st_mtime_ns for path in made]
    done = run("train", *arguments)
    assert done.returncode == 0, done.stderr
    for words in ("training is done", "scores are up to date: 1 held-out cases"):
        assert words in done.stdout
    assert "1 of 1 masks are whole and current" in done.stderr
    assert [path.stat().st_mtime_ns for path in made] == before


def test_a_run_predicts_by_probabilities(copied, held_out, tmp_path):
    """Resumed with the other way back: the run, predict.py and `segment` give one mask."""
    folder, arguments = copied
    done = run("train", *arguments, "--set", "predict.resample=probability")
    assert done.returncode == 0, done.stderr
    by_label, ct = held_out
    mask = kj.read_label(folder / "predictions" / by_label.name).array
    assert (mask != kj.read_label(by_label).array).any()
    model = kj.load_model(folder)
    np.testing.assert_array_equal(kj.segment(model, kj.read_volume(ct)).array, mask)
    done = predict(
        "--model", folder, "--input", ct, "--output", tmp_path / "masks", "--probabilities"
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(kj.read_label(tmp_path / "masks" / by_label.name).array, mask)


def test_a_moved_log_changes_nothing_else(finished, copied):
    """Split, settings and the best epoch are the record's; what the log alone told is missing."""
    (folder, _), (out, arguments) = finished, copied
    for name in ("metrics.jsonl", "split.json", "settings.toml"):
        (out / name).unlink()
    (out / "scores" / "scores.csv").unlink()
    refused = run("train", *arguments, "--set", "train.seed=9", "--set", "data.held_out=2")
    assert refused.returncode == 2
    assert "data.held_out = 1, not 2" in refused.stderr
    done = run("train", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"metrics.jsonl: {EPOCHS} of {EPOCHS} epochs are missing" in done.stderr
    for name in ("split.json", "scores/scores.csv"):
        assert (out / name).read_text() == (folder / "run" / name).read_text()
    before, after = (
        json.loads((path / "summary.json").read_text()) for path in (folder / "run", out)
    )
    assert after["best_epoch"] == before["best_epoch"]
    assert after["classes"] == before["classes"]
    assert after["least_validation_loss"] is None


def test_intensities_are_the_runs_own(finished, copied, tmp_path):
    """Measured of the training cases alone; a resumed run takes those of its record."""
    (folder, _), (out, arguments) = finished, copied
    record = read_record(out)
    cache = folder / "data" / "preprocessed" / "phantom"
    train = [next(cache.glob(f"*/{name}-*")) for name in record.train]
    settings = load_settings(folder / "tiny.toml").preprocess
    assert settings.normalize == "foreground"
    measured = fill_intensities(settings, [PreprocessedCase(case) for case in train])
    assert tuple(record.intensities) == measured.intensities
    assert load_model(out).preprocess == measured
    assert load_settings(out / "settings.toml").preprocess == settings
    shutil.copytree(cache, tmp_path / "cache")
    for path in (tmp_path / "cache").glob("*/*/histogram.npy"):
        np.save(path, 0 * np.load(path))
    (out / "model.safetensors").unlink()
    done = run("train", *arguments, "--set", f"data.cache={tmp_path}/cache")
    assert done.returncode == 0, done.stderr
    assert load_model(out).preprocess == measured
    assert read_record(out).intensities == record.intensities


def test_a_run_starts_from_a_trained_model(finished, tmp_path):
    """The record says from which; a run that is done needs it no more."""
    folder, _ = finished
    source = tmp_path / "source.safetensors"
    shutil.copy(folder / "run" / "model.safetensors", source)
    checksum = read_bundle(source).sha256
    changes = (f"run.folder={tmp_path / 'run'}", f"train.init_from={source}", "train.epochs=1")
    arguments = [part for change in changes for part in ("--set", change)]
    again = ("train", "--config", folder / "tiny.toml", *arguments, "--resume")
    done = run(*again)
    assert done.returncode == 0, done.stderr
    assert read_record(tmp_path / "run").initial == checksum
    source.unlink()
    done = run(*again, "--profile", "2")
    assert done.returncode == 0, done.stderr
    assert "training is done" in done.stdout
    assert "note: run.profile_steps = 2: no step is left to trace\n" in done.stderr
    assert read_record(tmp_path / "run").initial == checksum


def test_a_stop_while_predicting_is_told(copied):
    """Training is done, so the line says what is left, and the status is the signal's."""
    out, arguments = copied
    shutil.rmtree(out / "predictions")
    with subprocess.Popen(
        command("train", *arguments), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as job:  # fmt: skip
        while "training is done" not in job.stdout.readline():
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        _, printed = job.communicate(timeout=120)
    assert job.returncode == 143
    assert "SIGTERM: stopped after training; --resume predicts and scores what is left" in printed
    assert "Traceback" not in printed
    assert not list(out.glob("**/.*partial*"))


def test_a_damaged_checkpoint_gives_way(copied, finished):
    """Without its model file a finished run takes the last steps again from the one before.

    The post-processing that was chosen for the model is in the record, too.
    """
    (folder, _), (out, arguments) = finished, copied
    (out / "model.safetensors").unlink()
    chosen = {"steps": {"largest_components": 2}, "cases": 9}
    write_record(out, read_record(out).model_copy(update={"postprocess": chosen}))
    latest = max((out / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in (latest / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    done = run("train", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{latest}: the checkpoint is damaged" in done.stderr
    assert f"from step {(EPOCHS - 1) * BATCHES}" in done.stderr
    assert losses(out) == losses(folder / "run")
    models = [load_model(path).params for path in (out, folder / "run")]
    assert jax.tree.all(jax.tree.map(np.array_equal, *models))
    bundle = read_bundle(out)
    assert bundle.provenance["postprocess"] == read_record(out).postprocess == chosen
    assert bundle.settings.predict.largest_components == 2
    told = "post-processing as bin/postprocess.py chose it: predict.largest_components = 2"
    assert told in done.stdout


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
    assert "--resume goes on from there" in printed
    saved = re.search(r"SIGTERM: saved at step (\d+);", printed)
    steps, epochs = losses(out)
    assert steps[-1][0] == int(saved[1]), "a step was done but not saved"
    assert len(epochs) >= 2

    status, _ = interrupt(out, (*arguments, "--resume"), signal.SIGKILL)
    assert status == -signal.SIGKILL
    done = run("train", *arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(folder / "run")
    scores = [run_folder / "scores/scores.csv" for run_folder in (out, folder / "run")]
    assert scores[0].read_text() == scores[1].read_text()


def test_loss_that_is_not_finite_is_explained(finished, tmp_path):
    """The message names the step, the cases of its batch and the checkpoint."""
    folder, _ = finished
    done = run(
        "train", "--config", folder / "tiny.toml", "--set", f"run.folder={tmp_path}/diverged",
        "--set", "optimizer.learning_rate=1e30",
    )  # fmt: skip
    assert done.returncode == 2
    message = done.stderr.splitlines()[-1]
    # Each batch has patches of both training cases.
    names = json.loads((folder / "run" / "split.json").read_text())["train"]
    for words in ("at step", *names, "last good checkpoint", "learning_rate"):
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


def test_predict_continues_a_folder(finished, held_out, tmp_path):
    """What is current stays as it is, and a line says how many masks that are."""
    folder, _ = finished
    ct, output = held_out[1], tmp_path / "out"
    arguments = ("--model", folder / "run", "--input", ct, "--output", output, "--continue")
    first = predict(*arguments)
    assert first.returncode == 0, first.stderr
    assert "note: " not in first.stderr
    (mask,) = output.iterdir()
    made = mask.stat()
    again = predict(*arguments)
    assert again.returncode == 0, again.stderr
    assert f"note: {output}: 1 of 1 masks are whole and current, and left as they" in again.stderr
    for done in (first, again):
        assert done.stdout == f"1 of 1 masks are whole: {output.resolve()}\n"
    assert (mask.stat().st_ino, mask.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
