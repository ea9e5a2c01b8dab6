"""Waiting for other processes, and whether they run."""

import time
from pathlib import Path


def wait_until(true, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def is_running(process):
    # An ended process that nobody has waited for is a zombie: state Z.
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
