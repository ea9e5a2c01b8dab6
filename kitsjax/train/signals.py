"""SIGTERM and SIGINT as a request to save and leave, not an end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(Exception):
    """A signal came; the run saved a checkpoint and left off.

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
    """A list that SIGTERM and SIGINT append themselves to, instead of ending the process.

    A second signal of the kind acts as usual, for who won't wait for the checkpoint.
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
