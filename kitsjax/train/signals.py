"""Treat SIGTERM and SIGINT as a request to save a checkpoint and leave."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(Exception):
    """A signal came; the run saved a checkpoint and left.

    Attributes:
        status: the exit status that shells give to a process ended by that signal.
    """

    def __init__(self, number: int, step: int) -> None:
        self.status = 128 + number
        super().__init__(
            f"{signal.Signals(number).name}: saved at step {step}; --resume goes on from there"
        )


@contextmanager
def watch_signals() -> Iterator[list[int]]:
    """Yield a list to which SIGTERM and SIGINT append their numbers instead of ending the process.

    A second signal of the same kind ends the process as usual, for a user who does not want to
    wait for the checkpoint.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.signal(number, before[number])

    signals = (signal.SIGTERM, signal.SIGINT)
    before: dict[int, Any] = {number: signal.signal(number, note) for number in signals}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
