"""Work ahead in threads: its bound, its order, its errors and its end."""

import os
import subprocess
import sys
import threading

import pytest
from processes import wait_until

from kitsjax.infer.run_ahead import iterate_ahead, map_ahead

BLOCKED = """
import sys
from kitsjax.command import exit_with, run_command
from kitsjax.infer.run_ahead import iterate_ahead, map_ahead
def read(path):
    print("ready", flush=True)
    open(path).read()
def main():
    return len(list(iterate_ahead(map_ahead(read, sys.argv[1:]), 1)))
exit_with(run_command(main))
"""

WRITING = """
import sys, threading
from kitsjax.command import exit_with, run_command
from kitsjax.files import atomic_write
from kitsjax.infer.run_ahead import map_ahead
def write(path):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        threading.Event().wait()
exit_with(run_command(lambda: len(list(map_ahead(write, sys.argv[1:])))))
"""

UNCAUGHT = """
from kitsjax.infer.run_ahead import iterate_ahead
def use(items):
    for _ in items:
        raise OSError("no room")
use(iterate_ahead(range(9), 2))
"""


def stop_when_ready(code, path):
    """Run a program until it prints that it is ready, and send SIGTERM."""
    command = [sys.executable, "-c", code, path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            _, printed = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, printed) == (143, "SIGTERM: stopped\n")


def test_a_blocked_reader_does_not_delay_the_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    stop_when_ready(BLOCKED, tmp_path / "pipe")


def test_a_writer_that_is_stopped_leaves_nothing(tmp_path):
    stop_when_ready(WRITING, tmp_path / "mask.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ahead", [1, 3])
def test_calls_are_ahead_and_in_order(ahead):
    begun, enough = [], threading.Event()

    def read(item):
        begun.append(item)
        if item == ahead:
            enough.set()
        if item == 4:
            raise OSError("gone")
        return -item

    results = map_ahead(read, range(9), ahead)
    assert next(results) == 0
    assert enough.wait(30)
    assert sorted(begun) == list(range(ahead + 1))
    rest = list(results)
    assert str(rest.pop(3)) == "OSError: gone"
    assert rest == [-1, -2, -3, -5, -6, -7, -8]
    assert list(map_ahead(read, [])) == []


def test_calls_run_at_the_same_time():
    """Each of three waits for the two others."""
    together = threading.Barrier(3, timeout=30)
    assert sorted(map_ahead(lambda _: together.wait(), range(3), 3)) == [0, 1, 2]


def count_up(made, error=None):
    for n in range(5):
        made.append(n)
        yield n
    if error:
        raise error


def test_iteration_is_ahead_by_its_bound():
    made = []
    items = iterate_ahead(count_up(made), 2)
    assert made == []
    assert next(items) == 0
    assert wait_until(lambda: made == [0, 1, 2])
    assert next(items) == 1
    assert wait_until(lambda: made == [0, 1, 2, 3])
    assert list(items) == [2, 3, 4]


def test_iteration_raises_at_its_turn():
    items = iterate_ahead(count_up([], KeyError("x")), 9)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError):
        next(items)


def test_a_closed_iteration_ends_its_thread():
    before, made = threading.active_count(), []
    items = iterate_ahead(count_up(made), 1)
    assert next(items) == 0
    items.close()
    assert wait_until(lambda: threading.active_count() == before)
    assert len(made) < 5


def test_an_uncaught_exception_ends_the_process():
    """Python keeps its traceback, which holds the iterator, until the process has ended."""
    command = [sys.executable, "-c", UNCAUGHT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "OSError: no room")
