"""A training that takes no step ends with a status of its own; one that takes steps goes on."""

import subprocess
import sys

STALL = """
import sys, time
from kitsjax.train.stall import end_stalled

with end_stalled(float(sys.argv[1]), lambda: print("tidied")) as step:
    for _ in range(12):
        time.sleep(0.5)
        step()
    print("stepped")
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
