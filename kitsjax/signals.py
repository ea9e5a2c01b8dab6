"""Turn SIGTERM and SIGINT into an orderly end, whose exit status shells know: 128 + the number."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from kitsjax.processes import end_now

_Handler = Callable[[int, FrameType | None], None]

STOPPED_STATUSES = {number: 128 + number for number in (signal.SIGTERM, signal.SIGINT)}
"""The exit status that shells give to a process that a signal ended, by signal."""


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
        self.status = STOPPED_STATUSES[signal.Signals(number)]
        super().__init__(f"{signal.Signals(number).name}: {text or 'stopped'}")

    def find_text(self) -> str:
        """Find what was saved: the text of this stop, or of one that ended when this one came."""
        stop: BaseException | None = self
        while stop is not None:
            if isinstance(stop, Stopped) and stop.text:
                return stop.text
            stop = stop.__context__
        return ""


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
    before = {number: signal.getsignal(number) for number in STOPPED_STATUSES}

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.signal(number, before[signal.Signals(number)])

    with _handle(note):
        yield seen


def signal_self(number: int) -> None:
    """Send this process a signal that stopped another host.

    Nothing is sent where the default action stands, which would end it without tidying up: a signal
    has begun to end it already (`stop_on_signals`), or the caller handles none.
    """
    if signal.getsignal(number) != signal.SIG_DFL:
        os.kill(os.getpid(), number)


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT from now on, for a process that is ending with its own status."""
    for number in STOPPED_STATUSES:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def end_at_once_on_signals(
    text: str = "", tidy: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """End this process at SIGTERM or SIGINT even while a compiler runs, which holds up handlers.

    It is for work that writes nothing, since no file is tidied up. In another thread than the main
    one it does nothing.

    Args:
        text: what `Stopped` would say.
        tidy: is called before the end, in a thread of its own.
    """
    if not _in_main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        # The zero that ends the watch is no signal's number.
        while number := os.read(reader, 1)[0]:
            if number in STOPPED_STATUSES:
                tidy()
                print(Stopped(number, text), file=sys.stderr, flush=True)
                end_now(STOPPED_STATUSES[signal.Signals(number)])

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    # Python runs a handler only between two instructions, but writes to this pipe immediately.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        # The handler that stands would raise beside the thread. It stands again before the thread
        # ends, so that every signal meets one of them.
        with _handle(lambda number, frame: None):
            yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, b"\0")
        watching.join()
        os.close(reader)
        os.close(writer)


@contextmanager
def _handle(handler: _Handler) -> Iterator[None]:
    """Install a handler of both signals. One that is ignored, as a background job's, stays so."""
    numbers = STOPPED_STATUSES if _in_main_thread() else ()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    for number, found in before.items():
        if found != signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in before.items():
            # A process that has begun to end (`ignore_signals`) goes on to ignore them.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, found)


def _in_main_thread() -> bool:
    """Tell whether this is the main thread, the only one that Python lets set handlers."""
    return threading.current_thread() is threading.main_thread()
