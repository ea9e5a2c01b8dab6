"""A training that is killed or stopped at a random moment ends as an unbroken one, bit for bit.

The moments lie between the first message, which comes when all hosts have joined, and the end of a
process. There a signal to any host has one outcome, the same status on all: 143, or 0 where it came
when everything was done.

KITSJAX_FAULT_TRIALS sets the number of random moments of each signal.
"""

import os
import random
import signal
import time
from contextlib import suppress

import pytest
from tiny_training import EPOCHS, STEPS, start

from kitsjax.errors import RETRY_STATUS
from kitsjax.train.time_account import PARTS
from kitsjax.training_log import read_rows

pytestmark = pytest.mark.slow

TRIALS = int(os.environ.get("KITSJAX_FAULT_TRIALS", "2"))


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


def finish(folder, cache, processes):
    """Train to the end; return the first process's messages, the last with the hash."""
    started = start(folder, cache, processes)
    messages = [read_messages(*each) for each in started]
    for process, _ in started:
        process.join(60)
    assert [process.exitcode for process, _ in started] == [0] * processes
    return messages[0]


@pytest.fixture(scope="module", params=[1, 2])
def unbroken(request, tmp_path_factory, cache):
    """The number of processes; the log's numbers, the messages, the seconds between two of them."""
    processes = request.param
    folder = tmp_path_factory.mktemp("unbroken")
    messages = finish(folder, cache, processes)
    # The first compiled; this one tells the time.
    again = tmp_path_factory.mktemp("again")
    started = start(again, cache, processes)
    read_messages(*started[0], 1)
    began = time.monotonic()
    assert read_messages(*started[0]) == messages[1:]
    for process, _ in started:
        process.join(60)
    assert numbers(again) == numbers(folder)
    assert [r["step"] for r in numbers(folder) if r["kind"] == "step"] == [*range(1, STEPS + 1)]
    return processes, numbers(folder), messages, (time.monotonic() - began) / len(messages)


# The signal hits the first, the last, or every process of the run, each at a moment of its own.
HIT = {1: ([0],), 2: ([0], [1], [0, 1])}

# How those that were not hit end: with the others, or because they miss them.
EXPECTED = {signal.SIGKILL: {-signal.SIGKILL, RETRY_STATUS}, signal.SIGTERM: {143}}


@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_what_follows_equals_the_unbroken_run(
    tmp_path, unbroken, cache, record_property, number, trial
):
    processes, rows, messages, seconds = unbroken
    draw = random.Random(f"{number} {trial}")
    started = start(tmp_path, cache, processes)
    # After a random message, and then anywhere up to the next.
    read_messages(*started[0], draw.randint(1, len(messages) - 1))
    hit = draw.choice(HIT[processes])
    for index in hit:
        time.sleep(draw.uniform(0, seconds))
        # It may just have ended.
        with suppress(ProcessLookupError):
            os.kill(started[index][0].pid, number)
    for process, pipe in started:
        process.join(120)
        pipe.close()
    ends = [process.exitcode for process, _ in started]
    # All ends are 0 where the signal came when everything was done.
    assert {*ends} <= {*EXPECTED[number], 0}, ends
    unfinished = [*(tmp_path / "checkpoints").glob("*tmp*")]
    if number == signal.SIGTERM:
        assert not unfinished, "a stop leaves a whole checkpoint"
        assert len({*ends}) == 1, "all hosts end alike"
    record_property("hit", any(ends))
    record_property("while saving", bool(unfinished))
    assert finish(tmp_path, cache, processes)[-1] == messages[-1]
    assert numbers(tmp_path) == rows
    assert sum(row["kind"] == "epoch" for row in rows) == EPOCHS
