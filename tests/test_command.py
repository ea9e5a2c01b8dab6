import errno
import io
import logging
import os
import subprocess
import sys

import pytest
from tqdm import tqdm

from kitsjax.command import (
    add_profile,
    add_shard,
    make_parser,
    resolve_settings,
    run_command,
    settings_parser,
)
from kitsjax.errors import InputError, RetryError


def fail(error):
    def main():
        raise error

    return main


def test_success_passes_its_status_on():
    assert run_command(lambda: 0) == 0
    assert run_command(lambda: 143) == 143


@pytest.mark.parametrize(
    "error",
    [
        InputError("file.nii: bad; replace it"),
        OSError(errno.ENOSPC, "No space left on device", "file.nii"),
        PermissionError(errno.EACCES, "Permission denied", "file.nii"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "file.nii"),
    ],
)
def test_user_mistake_is_one_line_and_status_2(error, capsys):
    assert run_command(fail(error)) == 2
    printed = capsys.readouterr().err
    assert "file.nii" in printed
    assert len(printed.splitlines()) == 1
    # Whether writing is possible is tested before any work, so it was read.
    assert ("make it readable" in printed) == isinstance(error, PermissionError)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_name_can_be_printed(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors="strict"))
    assert run_command(lambda: print("masks\udcff") or 0) == 0
    assert written.getvalue() == b"masks\\udcff\n"


def test_notes_are_lines_of_the_terminal(capsys):
    """A note is one line on stderr, once, also beside a progress bar, while a command runs."""
    logger = logging.getLogger("kitsjax.image.read_nifti")

    def main():
        for name in tqdm(["a", "b", "a"], "read"):
            logger.warning("%s.nii: does not say how the patient lies", name)
        return 0

    handlers = logging.getLogger("kitsjax").handlers[:]
    assert run_command(main) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.err.replace("\r", "\n").split("\n") if "note" in line]
    assert lines == [f"note: {name}.nii: does not say how the patient lies" for name in "ab"]
    assert printed.out == ""
    assert logging.getLogger("kitsjax").handlers == handlers
    assert logging.getLogger("kitsjax").propagate


def test_a_closed_output_is_no_mistake(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert run_command(lambda: print("lost") or 0) == 0


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()))


@pytest.mark.parametrize("flush", [True, False])
def test_closed_pipe_gives_no_traceback(flush):
    code = (
        "import sys; from kitsjax.command import run_command; sys.stdin.read();"
        f"sys.exit(run_command(lambda: print('a line', flush={flush}) or 0))"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, env=buffered, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_print_config_prints_and_exits(capsys):
    args = settings_parser("").parse_args(["--print-config", "--set", "train.epochs=7"])
    with pytest.raises(SystemExit) as stop:
        resolve_settings(args)
    assert stop.value.code == 0
    assert "epochs = 7" in capsys.readouterr().out


def test_what_may_be_repeated_has_its_own_status(capsys):
    """75 is EX_TEMPFAIL: a scheduler starts the command again."""
    assert run_command(fail(RetryError("host 1 has died; start again"))) == 75
    assert capsys.readouterr().err.endswith(": host 1 has died; start again\n")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "all", ""])
def test_a_profile_has_steps(text, capsys):
    parser = settings_parser("")
    add_profile(parser)
    assert parser.parse_args([]).profile == []
    assert parser.parse_args(["--profile", "5"]).profile == ["run.profile_steps=5"]
    with pytest.raises(SystemExit) as stop:
        parser.parse_args([f"--profile={text}"])
    assert stop.value.code == 2
    assert f"{text!r}: give a number of training steps, from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shard"),
    [("0/1", (0, 1)), ("7/8", (7, 8)), ("8/8", None), ("1", None), ("-1/2", None)],
)
def test_shards_count_from_0(text, shard, capsys):
    parser = make_parser("")
    add_shard(parser)
    if shard is not None:
        assert parser.parse_args(["--shard", text]).shard == shard
        return
    with pytest.raises(SystemExit):
        parser.parse_args([f"--shard={text}"])
    assert "write I/N with I from 0 to N - 1" in capsys.readouterr().err
