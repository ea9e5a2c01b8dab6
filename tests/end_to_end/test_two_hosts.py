"""A run on two hosts, which are two processes with two CPU devices each, over loopback.

Its numbers are those of one process, whatever happens to one host or to both on the way.
"""

import os
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from tiny_run import EPOCHS, command, environment, run, write_tiny_settings
from two_hosts import finish, free_address, start_processes

from kitsjax.run_record import read_record
from kitsjax.training_log import read_epochs, read_rows

pytestmark = pytest.mark.slow

# The smallest network, compiled without optimizing it, since both processes compile it.
SMALL = [
    "sampling.patch_shape=[8, 8, 8]", "network.features=2", "network.deep_supervision=1",
    "augment.rotate=0", "augment.scale=0", "train.threshold_baseline=false",
]  # fmt: skip
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def arguments(folder, out, *settings):
    chosen = [*SMALL, f"run.folder={out}", *settings]
    overrides = [word for setting in chosen for word in ("--set", setting)]
    return ["--config", folder / "tiny.toml", "--resume", *overrides]


def small_environment():
    return environment() | {"XLA_FLAGS": FLAGS}


def start(folder, out, *settings):
    """Start the run on two hosts."""
    joined = f"run.coordinator={free_address()}", "run.processes=2"
    return start_processes(
        [
            command("train", *arguments(folder, out, *joined, f"run.process={i}", *settings))
            for i in range(2)
        ],
        small_environment(),
    )


def run_alone(folder, out, devices):
    words = arguments(folder, out, f"run.cpu_devices={devices}")
    return subprocess.run(
        command("train", *words), env=small_environment(), capture_output=True,
        text=True, timeout=1200,
    )  # fmt: skip


def numbers(out):
    """All losses and norms of a run, step by step, and those of its epochs."""
    rows = read_rows(out / "metrics.jsonl")
    steps = [(r["step"], r["loss"], r["grad_norm"]) for r in rows if r["kind"] == "step"]
    epochs = [
        (r["epoch"], r["train_loss"], r["validation_loss"], r["pseudo_dice_average"])
        for r in rows
        if r["kind"] == "epoch"
    ]
    return np.array(steps), np.array(epochs)


def assert_close(out, other, tolerance=1e-6):
    for one, two in zip(numbers(out), numbers(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with `tiny.toml` and the preprocessed phantom."""
    folder = tmp_path_factory.mktemp("hosts")
    write_tiny_settings(folder)
    done = run("preprocess", "--config", folder / "tiny.toml")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def whole(tiny):
    """The unbroken run on two hosts, which trace two steps, and what both printed."""
    with start(tiny, tiny / "whole", "run.profile_steps=2") as started:
        statuses, printed, lines = finish(started, 1200)
    assert statuses == [0, 0], lines
    return tiny / "whole", printed


def test_two_hosts_give_the_numbers_of_one(tiny, whole):
    """2 processes x 2 devices and 1 x 4 agree to 1e-6, 1 x 1 to 1e-5; one host alone prints."""
    out, (first, second) = whole
    assert "4 x cpu (cpu) in 2 process(es)" in first
    assert second == ""
    assert read_record(out).stage == "finished"
    traces = out.glob("profile/host_*/plugins/profile/*/perfetto_trace.json.gz")
    assert sorted(path.relative_to(out).parts[1] for path in traces) == ["host_0", "host_1"]
    # A single device sums in another order, which the first, large steps amplify.
    for devices, tolerance in ((4, 1e-6), (1, 1e-5)):
        alone = tiny / f"alone_{devices}"
        done = run_alone(tiny, alone, devices)
        assert done.returncode == 0, done.stderr
        assert_close(out, alone, tolerance)
        names = ("scores/scores.csv", "scores/lesions.csv")
        assert [(out / n).read_text() for n in names] == [(alone / n).read_text() for n in names]


def interrupt(started, out, ends):
    """Call `ends(started)` once the run has logged another epoch, and wait for both hosts."""

    def count():
        return len(read_epochs(out / "metrics.jsonl"))

    before, until = count(), time.monotonic() + 1200
    while count() <= before:
        assert all(process.poll() is None for process in started), finish(started)
        assert time.monotonic() < until
        time.sleep(0.01)
    ends(started)
    return finish(started, 600)


def signal_one(started):
    started[1].send_signal(signal.SIGTERM)


def signal_both(started):
    started[1].send_signal(signal.SIGTERM)
    time.sleep(1)
    started[0].send_signal(signal.SIGTERM)


@pytest.mark.parametrize("stop", [signal_one, signal_both])
def test_a_signal_stops_both_at_one_step(tiny, whole, tmp_path, stop):
    """Both have status 143 and one checkpoint; it resumes on one process, and on two again."""
    out = tmp_path / "run"
    with start(tiny, out) as started:
        statuses, _, lines = interrupt(started, out, stop)
    assert statuses == [143, 143], lines
    said = r"SIGTERM: saved at step \d+; --resume goes on from there"
    for own in lines:
        assert len([line for line in own if re.fullmatch(said, line)]) == 1, lines
        assert not any("Traceback" in line for line in own)
    if stop is signal_one:
        words = arguments(tiny, out, "run.cpu_devices=4")
        with start_processes([command("train", *words)], small_environment()) as alone:
            statuses, _, lines = interrupt(alone, out, lambda _: alone[0].send_signal(15))
        assert statuses == [143], lines
    with start(tiny, out) as started:
        statuses, _, lines = finish(started, 1200)
    assert statuses == [0, 0], lines
    assert_close(out, whole[0])


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_host_ends_the_run(tiny, whole, tmp_path, killed):
    """The other one ends with status 75 and a line of its own, and the run resumes."""
    out = tmp_path / "run"

    def kill(started):
        os.kill(started[killed].pid, signal.SIGKILL)

    with start(tiny, out) as started:
        statuses, _, lines = interrupt(started, out, kill)
    assert statuses == ([-9, 75] if killed == 0 else [75, -9]), lines
    survivor = lines[1 - killed]
    assert not any("Traceback" in line for line in survivor)
    assert f"host {killed}" in survivor[-1]
    assert "start all hosts again with --resume" in survivor[-1]
    with start(tiny, out) as started:
        statuses, _, lines = finish(started, 1200)
    assert statuses == [0, 0], lines
    assert len(read_epochs(out / "metrics.jsonl")) == EPOCHS
    assert_close(out, whole[0])


def test_a_finished_run_is_not_done_again(tiny, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    with start(tiny, tmp_path / "run") as started:
        statuses, (first, second), lines = finish(started, 600)
    assert statuses == [0, 0], lines
    assert "training is done" in first
    assert "scores are up to date" in first
    assert second == ""


def test_folds_on_two_hosts(tiny):
    """One fold after another, each by both hosts; then the first host scores all cases."""
    out = tiny / "folds"
    settings = ["run.processes=2", "data.folds=2", "train.epochs=1"]
    for skipped in (0, 2):
        address = f"run.coordinator={free_address()}"
        commands = [
            [*command("train", *arguments(tiny, out, *settings, address, f"run.process={i}")),
             "--fold", "all"]
            for i in range(2)
        ]  # fmt: skip
        with start_processes(commands, small_environment()) as started:
            statuses, (first, second), lines = finish(started, 1200)
        assert statuses == [0, 0], lines
        assert second == ""
        assert first.count("finished, and skipped") == skipped
        assert "2 of 2 folds are finished" in first
        assert len(list(out.glob("fold_*/model.safetensors"))) == 2
        assert len(list(out.glob("predictions/*"))) == 3
        assert "Out-of-fold scores" in (out / "report" / "report.html").read_text()
