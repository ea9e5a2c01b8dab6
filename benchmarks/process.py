"""Child processes that leave nothing running behind them."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def run_alone(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Run a command to its end in a session of its own.

    Whatever ends the wait, an interrupt included, ends the command and all that it has started.

    Args:
        environment: added to this process's.
        log: gets what the command prints.

    Returns:
        Its exit status; negative the number of the signal that ended it.
    """
    with log.open("w") as output:
        child = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            return child.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def last_line(log: Path) -> str:
    """What a command said last."""
    return (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
