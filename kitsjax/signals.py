"""Turn SIGTERM and SIGINT into an orderly end, whose exit status shells know: 128 + the number."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], None]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_READER = "kitsjax-reader"
"""The name of the threads that `start_reader` starts."""


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop.

    It is a KeyboardInterrupt, so that what handles Ctrl-C handles SIGTERM alike.

    Attributes:
        number: the signal.
        text: what was saved, and how to go on; empty where nobody has said so yet.
        status: the exit status that shells give to a process that the signal ended.
    """

    def __init__(self, number: int, text: str = "") -> None:
        self.number = number
        self.text = text
        self.status = 128 + number
        super().__init__(f"{signal.Signals(number).name}: {text or 'stopped'}")


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `Stopped` in the main thread on SIGTERM or SIGINT.

    So temporary files are removed and worker processes end. A second signal of the same kind ends
    the process at once, for a user who does not want to wait.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    with _handle(stop):
        yield


@contextmanager
def watch_signals() -> Iterator[list[int]]:
    """Yield a list to which SIGTERM and SIGINT append their numbers instead of ending the process.

    A second signal of the same kind acts as it did before, for a user who does not want to wait for
    the checkpoint.
    """
    seen: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.signal(number, before[signal.Signals(number)])

    with _handle(note):
        yield seen


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT from now on, for a process that is ending with its own status."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def start_reader(work: Callable[[], None]) -> None:
    """Start a thread that only reads, for which an end by a signal does not wait.

    Any other end of the process waits for it.
    """
    threading.Thread(target=work, name=_READER).start()


def end_after_signal(status: int) -> int:
    """End the process at once if a reader still works, which may hang; else return the status.

    It cannot be a daemon thread: one that is stopped within a library may keep a lock, for which
    that library waits when it is unloaded.
    """
    if any(thread.name == _READER for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            # It is None where the shell closed it, and its reader may have gone.
            with suppress(AttributeError, OSError):
                stream.flush()
        os._exit(status)
    return status


@contextmanager
def end_at_once_on_signals() -> Iterator[None]:
    """End this process at SIGTERM or SIGINT even while a compiler runs, which holds up handlers.

    It is for commands that write nothing, since no file is tidied up.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in _SIGNALS:
                os._exit(128 + number[0])
        os.close(reader)

    threading.Thread(target=watch, daemon=True).start()
    with _handle(lambda number, frame: None):
        # Python runs a handler only between two instructions, but writes to this pipe immediately.
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writer)


@contextmanager
def _handle(handler: _Handler) -> Iterator[None]:
    """Install a handler of both signals. One that is ignored, as a background job's, stays so."""
    # Python lets only the main thread set handlers.
    main = threading.current_thread() is threading.main_thread()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS if main}
    for number, found in before.items():
        if found != signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)
