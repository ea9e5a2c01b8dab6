"""Child processes that import this repository and leave nothing running behind them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kitsjax.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """Return this process's environment with the repository in the module search path.

    The benchmarks are not installed, and the working directory can be any.
    """
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_module(
    title: str, module: str, arguments: Sequence[str], variables: Mapping[str, str], log: Path
) -> Any:
    """Run `python -m MODULE RESULT ARGUMENTS` to its end in a session of its own.

    Whatever ends the wait, even an interrupt, ends the process and all that it has started.

    Args:
        title: what is run, for the error message.
        module: writes its result as JSON to the file RESULT, its first argument.
        variables: added to the environment.
        log: file that gets what the process prints.

    Returns:
        The result.

    Raises:
        InputError: The process failed.
    """
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        status = run_alone([sys.executable, "-m", module, str(result), *arguments], variables, log)
        if status:
            raise InputError(f"{title}: exit status {status} ({read_last_line(log)}); see {log}")
        return json.loads(result.read_text())


def read_last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def run_alone(command: Sequence[str], variables: Mapping[str, str], log: Path) -> int:
    """Run a command as `run_module` does; return its exit status, -n if signal n ended it."""
    with log.open("w") as output:
        child = subprocess.Popen(
            command, env=environment() | dict(variables), stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            return child.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
