"""A training that is killed or stopped at a random moment ends as an unbroken one, bit for bit.

KITSJAX_FAULT_TRIALS sets the number of random moments of each signal.
"""

import os
import random
import signal
import time

import pytest
from tiny_training import EPOCHS, STEPS, start

from kitsjax.train.time_account import PARTS
from kitsjax.training_log import read_rows

pytestmark = pytest.mark.slow

TRIALS = int(os.environ.get("KITSJAX_FAULT_TRIALS", "3"))


def numbers(folder):
    """The log's rows without its times."""
    timed = {"seconds", "patches_per_second", "goodput", *(f"share_{part}" for part in PARTS)}
    rows = read_rows(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of compiled programs, which the unbroken run fills before anything is killed."""
    return str(tmp_path_factory.mktemp("xla"))


def finish(folder, cache):
    """Train to the end; return the hash of the best parameters and the seconds of the training."""
    process, pipe = start(folder, cache)
    began, digest = None, None
    try:
        while digest is None:
            assert pipe.poll(300), "the training takes too long"
            name, *value = pipe.recv()
            if name == "ready":
                began = time.monotonic()
            elif name == "done":
                (digest,) = value
    except EOFError:
        pytest.fail(f"the training ended with status {process.exitcode}")
    process.join(60)
    assert process.exitcode == 0
    return digest, time.monotonic() - (began or time.monotonic())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("unbroken")
    digest, _ = finish(folder, cache)
    # The first compiled; this one tells the time.
    again, seconds = finish(tmp_path_factory.mktemp("again"), cache)
    assert again == digest
    assert [r["step"] for r in numbers(folder) if r["kind"] == "step"] == [*range(1, STEPS + 1)]
    return digest, numbers(folder), seconds


def wait_until_ready(process, pipe):
    while True:
        assert pipe.poll(300), "the training takes too long"
        if pipe.recv() == ("ready",):
            return


@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
# Two processes of one run, which the signal hits one by one or both, belong here, too.
@pytest.mark.parametrize("processes", [1])
def test_what_follows_equals_the_unbroken_run(
    tmp_path, unbroken, cache, record_property, number, trial, processes
):
    digest, rows, seconds = unbroken
    moment = random.Random(f"{number} {trial}").uniform(0, seconds)
    process, pipe = start(tmp_path, cache)
    wait_until_ready(process, pipe)
    time.sleep(moment)
    os.kill(process.pid, number)
    process.join(120)
    pipe.close()
    # One that had just ended was not hit.
    expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}[number]
    assert process.exitcode in (expected, 0)
    unfinished = [*(tmp_path / "checkpoints").glob("*tmp*")]
    if number == signal.SIGTERM:
        assert not unfinished, "a stop leaves a whole checkpoint"
    record_property("hit", process.exitcode != 0)
    record_property("while saving", bool(unfinished))
    assert finish(tmp_path, cache)[0] == digest
    assert numbers(tmp_path) == rows
    assert sum(row["kind"] == "epoch" for row in rows) == EPOCHS
