"""The parts of lines that say what went wrong."""

import errno

from kitsjax.errors import first_line, name_first


def test_a_reason_names_no_file():
    """The message does, in its own words, and a path may hold a patient's name."""
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "/in/Muster/1.dcm")
    assert first_line(error) == "No such file or directory"
    assert first_line(TimeoutError("timed out")) == "timed out"
    assert first_line(ValueError("\nfirst\nsecond")) == "first"
    assert first_line(EOFError()) == "EOFError"


def test_the_first_are_named_and_others_counted():
    named = []
    told = name_first("abcd", 2, lambda name: named.append(name) or name.upper())
    assert told == "A, B and 2 more"
    assert named == ["a", "b"]
    assert name_first([1, 2], 2) == "1, 2"
    assert name_first([], 2) == ""
