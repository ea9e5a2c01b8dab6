"""Failures of single files among many: their lines, and the log of tracebacks."""

import pickle

import pytest

from kitsjax.errors import InputError, UnforeseenError
from kitsjax.failures import ERRORS_NAME, catch, describe_failure


def divide(a, b):
    return a / b


def refuse(_):
    raise InputError("a.nii: bad; give another")


def test_catch_returns_results_and_errors():
    assert catch(divide, 6, b=3) == 2
    assert str(catch(refuse, 1)) == "a.nii: bad; give another"
    error = catch(divide, 1, 0)
    assert str(error) == "ZeroDivisionError: division by zero"
    assert "in divide" in error.trace
    assert str(catch(memory_is_full)) == "MemoryError"
    with pytest.raises(SystemExit):
        catch(exit)


def memory_is_full():
    raise MemoryError


def test_an_unforeseen_error_survives_pickling():
    error = pickle.loads(pickle.dumps(UnforeseenError("TypeError: odd", "many\nlines")))
    assert (str(error), error.trace) == ("TypeError: odd", "many\nlines")


def test_lines_name_file_class_and_log(tmp_path):
    """A mistake of the user has its whole line already, and no traceback."""
    folder = tmp_path / "out"
    assert describe_failure(catch(refuse, 1), "a.nii", folder) == "a.nii: bad; give another"
    killed = UnforeseenError("its worker was killed")
    assert describe_failure(killed, "b.nii", folder) == "b.nii: its worker was killed"
    assert not folder.exists()
    log = folder / ERRORS_NAME
    for name in ("c.nii", "d.nii"):
        assert describe_failure(catch(divide, 1, 0), name, folder) == (
            f"{name}: ZeroDivisionError: division by zero; the full traceback is in {log}"
        )
    text = log.read_text()
    assert text.count("Traceback") == 2
    assert text.index("c.nii: Zero") < text.index("d.nii: Zero")


def test_a_name_that_is_no_utf_8_is_logged(tmp_path):
    describe_failure(catch(divide, 1, 0), "scan\udcff.nii", tmp_path)
    assert r"scan\udcff.nii: ZeroDivisionError" in (tmp_path / ERRORS_NAME).read_text("utf-8")


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    line = describe_failure(catch(divide, 1, 0), "a.nii", tmp_path / "file")
    assert line.startswith("a.nii: ZeroDivisionError: division by zero; its traceback cannot be")
    assert "\n" not in line
