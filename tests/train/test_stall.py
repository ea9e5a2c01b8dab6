"""A training that takes no step ends with a status of its own; one that takes steps goes on."""

import os
import signal
import subprocess
import sys
import time

STALL = """
import sys, time
from kitsjax.train.stall import end_stalled

with end_stalled(float(sys.argv[1]), lambda: print("tidied")) as step:
    for _ in range(12):
        time.sleep(0.5)
        step()
    print("stepped", flush=True)
    if sys.argv[2] == "hang":
        time.sleep(1000)
time.sleep(1)
"""


def run(minutes, then):
    return subprocess.run(
        [sys.executable, "-c", STALL, str(minutes), then], capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def test_a_stalled_training_ends():
    done = run(0.075, "hang")
    assert (done.returncode, done.stdout) == (75, "stepped\ntidied\n")
    assert done.stderr.startswith("no training step for 0.075 minutes (run.stall_minutes)")
    assert len(done.stderr.splitlines()) == 1


def test_a_training_that_is_done_goes_on():
    for minutes in (0.075, 0):
        done = run(minutes, "end")
        assert (done.returncode, done.stdout, done.stderr) == (0, "stepped\n", "")


SUSPENDED = """
import time
from kitsjax.train.stall import end_stalled

def work(seconds):
    # Unlike a sleep, this is not over at once when the process goes on.
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

with end_stalled(0.075, lambda: None) as step:
    print("begun", flush=True)
    for _ in range(3):
        work(1.0)
        step()
"""


def test_a_suspended_process_is_not_stalled():
    """Ctrl-Z and fg, or a scheduler: for longer than the limit nothing runs, the watch included."""
    with subprocess.Popen([sys.executable, "-c", SUSPENDED], stdout=subprocess.PIPE) as started:
        assert started.stdout.readline() == b"begun\n"
        time.sleep(0.2)
        os.kill(started.pid, signal.SIGSTOP)
        time.sleep(9)
        os.kill(started.pid, signal.SIGCONT)
        assert started.wait(timeout=120) == 0
