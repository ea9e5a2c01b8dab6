import subprocess
import sys

import pytest
from processes import is_running, wait_until

from benchmarks.run_process import ROOT, run_alone, run_module
from kitsjax.errors import InputError


def test_an_interrupt_ends_a_whole_process_tree(tmp_path):
    """A command starts another and prints its id, and both wait; then we are ended."""
    inner = "import time; time.sleep(60)"
    outer = (
        "import subprocess, sys, time;"
        f"print(subprocess.Popen([sys.executable, '-c', {inner!r}]).pid, flush=True);"
        "time.sleep(60)"
    )
    log = tmp_path / "log"
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from benchmarks.run_process import run_alone\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"run_alone([sys.executable, '-c', {outer!r}], {{}}, Path({str(log)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        assert wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        process.terminate()
        assert process.wait(30) == 143
    started = int(log.read_text())
    assert wait_until(lambda: not is_running(started))


def test_a_command_has_its_variables_and_status(tmp_path):
    code = "import os; print(os.environ['CHOSEN']); os._exit(3)"
    assert run_alone([sys.executable, "-c", code], {"CHOSEN": "x"}, tmp_path / "log") == 3
    assert (tmp_path / "log").read_text() == "x\n"


def test_modules_are_found_from_any_folder(tmp_path, monkeypatch):
    """The process fails in the benchmark's own code, not in finding it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    message = r"work: exit status 1 \(KeyError: 'nothing'\); see "
    with pytest.raises(InputError, match=message):
        run_module(
            "work", "benchmarks.worker", ["nothing", "0", '{"folder": ""}'], {}, tmp_path / "log"
        )
