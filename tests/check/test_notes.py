import logging

from kitsjax.check.notes import collected_notes, describe_notes

_logger = logging.getLogger("kitsjax.some.module")


def test_notes_are_collected_and_not_printed():
    """Afterwards they go where they went before."""
    package, printed = logging.getLogger("kitsjax"), []
    handler = logging.Handler()
    handler.emit = printed.append
    package.addHandler(handler)
    try:
        with collected_notes() as notes:
            _logger.warning("%s: is odd", "a")
            _logger.info("%s: is read", "a")
        assert printed == []
        _logger.warning("after")
    finally:
        package.removeHandler(handler)
    assert [record.getMessage() for record in notes] == ["a: is odd"]
    assert [record.getMessage() for record in printed] == ["after"]


def test_equal_notes_on_several_files_are_one():
    with collected_notes() as notes:
        for name in ("a", "b", "a", "c"):
            _logger.warning("%s: is odd", name)
        _logger.warning("%s: is tilted", "a")
    assert describe_notes(notes) == ["a: is odd (the same holds for 2 more)", "a: is tilted"]
