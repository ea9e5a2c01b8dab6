"""A training that is killed or stopped at a random moment ends as an unbroken one, bit for bit.

KITSJAX_FAULT_TRIALS sets the number of random moments of each signal.
"""

import os
import random
import signal
import time
from contextlib import suppress

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


def read_messages(process, pipe, count=None):
    """Read so many messages of a training, or all up to its last."""
    messages = []
    try:
        while len(messages) != count and (not messages or messages[-1][0] != "done"):
            assert pipe.poll(300), "the training takes too long"
            messages.append(pipe.recv())
    except EOFError:
        pytest.fail(f"the training ended with status {process.exitcode}")
    return messages


def finish(folder, cache):
    """Train to the end; return its messages, of which the last has the hash of the parameters."""
    process, pipe = start(folder, cache)
    messages = read_messages(process, pipe)
    process.join(60)
    assert process.exitcode == 0
    return messages


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    """The log's numbers, the messages, and the mean seconds between two of them."""
    folder = tmp_path_factory.mktemp("unbroken")
    messages = finish(folder, cache)
    # The first compiled; this one tells the time.
    again = tmp_path_factory.mktemp("again")
    process, pipe = start(again, cache)
    read_messages(process, pipe, 1)
    began = time.monotonic()
    assert read_messages(process, pipe) == messages[1:]
    process.join(60)
    assert numbers(again) == numbers(folder)
    assert [r["step"] for r in numbers(folder) if r["kind"] == "step"] == [*range(1, STEPS + 1)]
    return numbers(folder), messages, (time.monotonic() - began) / len(messages)


@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
# Two processes of one run, which the signal hits one by one or both, belong here, too.
@pytest.mark.parametrize("processes", [1])
def test_what_follows_equals_the_unbroken_run(
    tmp_path, unbroken, cache, record_property, number, trial, processes
):
    rows, messages, seconds = unbroken
    draw = random.Random(f"{number} {trial}")
    process, pipe = start(tmp_path, cache)
    # After a random message, and then anywhere up to the next.
    read_messages(process, pipe, draw.randint(1, len(messages) - 1))
    time.sleep(draw.uniform(0, seconds))
    # It may just have ended.
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
    process.join(120)
    pipe.close()
    expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}[number]
    assert process.exitcode in (expected, 0)
    unfinished = [*(tmp_path / "checkpoints").glob("*tmp*")]
    if number == signal.SIGTERM:
        assert not unfinished, "a stop leaves a whole checkpoint"
    record_property("hit", process.exitcode != 0)
    record_property("while saving", bool(unfinished))
    assert finish(tmp_path, cache)[-1] == messages[-1]
    assert numbers(tmp_path) == rows
    assert sum(row["kind"] == "epoch" for row in rows) == EPOCHS
