"""bin/train.py, bin/preprocess.py and bin/predict.py as a user runs them."""

import json
import signal
import subprocess
import time
import tomllib

import nibabel as nib
import numpy as np
import pytest
from tiny_run import command, environment, run

from kitsjax.training_log import read_rows

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
    assert tomllib.loads((out / "settings.toml").read_text())["train"]["epochs"] == 3
    assert [p.name for p in (out / "predictions").iterdir()] == [f"{held_out[0]}.nii.gz"]
    assert (out / "scores/scores.csv").read_text().splitlines()[1].startswith(held_out[0])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["epochs"] == 3
    assert set(summary["classes"]) == {"kidney_and_mass", "mass", "tumor"}
    assert set(summary["classes"]["tumor"]) == {"dice", "surface_dice"}
    assert set(summary["best_hu_threshold"]) == set(summary["classes"])
    for words in ("parameters", "GFLOP", "Kidney + Masses", "best HU threshold", str(out)):
        assert words in printed


def test_mask_has_its_cts_exact_geometry(finished):
    folder, _ = finished
    (path,) = (folder / "run" / "predictions").iterdir()
    mask = nib.load(path)
    ct = nib.load(
        folder / "data" / "phantom" / path.name.removesuffix(".nii.gz") / "imaging.nii.gz"
    )
    assert mask.shape == ct.shape
    assert (mask.affine == ct.affine).all()
    assert mask.get_data_dtype() == np.uint8


def test_training_learns(finished):
    steps, _ = losses(finished[0] / "run")
    assert [s[0] for s in steps] == list(range(1, 13))
    assert np.mean([s[1] for s in steps[-4:]]) < np.mean([s[1] for s in steps[:4]]) - 0.05


def test_second_run_keeps_the_first(finished):
    folder, _ = finished
    again = run("train", "--config", folder / "tiny.toml")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert len(again.stderr.splitlines()) == 1
    data = run("preprocess", "--config", folder / "tiny.toml")
    assert data.returncode == 0
    assert "0 cases made, 3 up to date" in data.stdout


def test_resume_of_a_finished_run_scores_it_again(finished):
    folder, _ = finished
    before = (folder / "run" / "scores/scores.csv").read_text()
    done = run("train", "--config", folder / "tiny.toml", "--resume")
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "scores/scores.csv").read_text() == before


def test_resume_with_other_settings_is_refused(finished):
    folder, _ = finished
    done = run(
        "train", "--config", folder / "tiny.toml", "--resume",
        "--set", "optimizer.learning_rate=0.5",
    )  # fmt: skip
    assert done.returncode == 2
    assert "optimizer.learning_rate = 0.02, not 0.5" in done.stderr


def wait_for(folder, ready, job, seconds=300):
    until = time.monotonic() + seconds
    while time.monotonic() < until and job.poll() is None:
        if ready():
            return
        time.sleep(0.02)
    pytest.fail(f"the run in {folder} did not come so far; exit status {job.poll()}")


def interrupted(folder, name, number, ready):
    """Start a run of its own folder and send it a signal once `ready(run folder)` is true."""
    out = folder / name
    # The threshold baseline is none of what is compared with the finished run.
    arguments = (
        "--config", folder / "tiny.toml", "--set", f"run.folder={out}",
        "--set", "train.threshold_baseline=false",
    )  # fmt: skip
    with (folder / f"{name}.log").open("w") as log:
        job = subprocess.Popen(
            command("train", *arguments), env=environment(), stdout=log, stderr=log
        )
        wait_for(out, lambda: ready(out), job)
        job.send_signal(number)
        return out, arguments, job.wait(timeout=120)


@pytest.mark.parametrize("rows", [2, 8], ids=["in an epoch", "after two epochs"])
def test_killed_and_resumed_run_is_bit_identical(finished, rows):
    folder, _ = finished

    def ready(out):
        # Steps reach the file when an epoch ends; the checkpoint itself is still being written.
        steps = [r for r in read_rows(out / "metrics.jsonl") if r["kind"] == "step"]
        return len(steps) >= rows

    out, arguments, status = interrupted(folder, f"killed{rows}", signal.SIGKILL, ready)
    assert status == -signal.SIGKILL
    done = run("train", *arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(folder / "run")
    assert (out / "scores/scores.csv").read_text() == (
        folder / "run" / "scores/scores.csv"
    ).read_text()


def test_sigterm_saves_and_resumes_exactly(finished):
    folder, _ = finished
    out, arguments, status = interrupted(
        folder, "terminated", signal.SIGTERM, lambda out: (out / "checkpoints" / "4").is_dir()
    )
    assert status == 128 + signal.SIGTERM
    assert "--resume" in (folder / "terminated.log").read_text()
    saved = max(int(p.name) for p in (out / "checkpoints").iterdir() if p.name.isdigit())
    steps, _ = losses(out)
    assert steps[-1][0] == saved, "a step was done but not saved"
    done = run("train", *arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(folder / "run")


def test_loss_that_is_not_finite_is_explained(finished):
    folder, _ = finished
    done = run(
        "train", "--config", folder / "tiny.toml", "--set", f"run.folder={folder}/diverged",
        "--set", "optimizer.learning_rate=1e30", "--set", "optimizer.clip_norm=1e30",
    )  # fmt: skip
    assert done.returncode == 2
    message = done.stderr.splitlines()[-1]
    for words in ("at step", "case_0000", "last good checkpoint", "learning_rate"):
        assert words in message
    assert "Traceback" not in done.stderr


def test_predict_gives_the_runs_own_masks(finished):
    folder, _ = finished
    (mask,) = (folder / "run" / "predictions").iterdir()
    name = mask.name.removesuffix(".nii.gz")
    done = run(
        "predict", "--model", folder / "run", "--output", folder / "masks",
        "--input", folder / "data" / "phantom" / name / "imaging.nii.gz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = nib.load(folder / "masks" / mask.name)
    assert (np.asarray(ours.dataobj) == np.asarray(nib.load(mask).dataobj)).all()


def test_predict_goes_on_past_a_bad_file(finished):
    folder, _ = finished
    inputs = folder / "inputs"
    inputs.mkdir()
    (inputs / "a.nii.gz").write_text("not a volume")
    source = folder / "data" / "phantom" / "case_00000" / "imaging.nii.gz"
    (inputs / "b.nii.gz").write_bytes(source.read_bytes())
    done = run(
        "predict", "--model", folder / "run/model.safetensors", "--input", inputs,
        "--output", folder / "some", "--set", "predict.mirror=true",
    )  # fmt: skip
    assert done.returncode == 2
    assert [p.name for p in (folder / "some").iterdir()] == ["b.nii.gz"]
    assert "a.nii.gz" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
