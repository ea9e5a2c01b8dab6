"""Collect the notes that readers of files log, to show them with their case."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_notes() -> Iterator[list[logging.LogRecord]]:
    """Yield a list that gets what the package logs meanwhile, in place of its being printed."""
    logger = logging.getLogger("kitsjax")
    collector = _Collector()
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [collector], False
    try:
        yield collector.records
    finally:
        logger.handlers, logger.propagate = before


def describe_notes(records: list[logging.LogRecord]) -> list[str]:
    """Return the notes as texts; what is noted of several files is told of the first of them."""
    alike: dict[str, list[str]] = {}
    for record in records:
        texts = alike.setdefault(str(record.msg), [])
        if record.getMessage() not in texts:
            texts.append(record.getMessage())
    return [
        first + (f" (the same holds for {len(rest)} more)" if rest else "")
        for first, *rest in alike.values()
    ]


class _Collector(logging.Handler):
    """A handler that keeps warnings in a list."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
