"""`bin/train.py --plan`: options that exclude each other, and a platform that is not there."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "bin" / "train.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "v5e:2x2"], "--target goes with --plan"),
        (["--target", ""], "--target goes with --plan"),
        (["--plan", "--resume"], "leave out --resume"),
        (["--plan", "--profile", "3"], "leave out --resume, --fold and --profile"),
    ],
)
def test_options_that_do_not_go_together(options, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TRAIN), *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TRAIN))["main"]()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_platform_is_told_in_a_line():
    environment = {**os.environ, "JAX_PLATFORMS": "nonsense"}
    command = [sys.executable, str(TRAIN), "--plan"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "JAX finds no device for JAX_PLATFORMS='nonsense'" in run.stderr
