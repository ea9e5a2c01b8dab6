"""The end of a training that makes no progress, so that a scheduler starts it again."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kitsjax.errors import RETRY_STATUS
from kitsjax.processes import end_now

_LOOKS_PER_LIMIT = 60


@contextmanager
def end_stalled(minutes: float, tidy: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """End this process if no step is taken for so long; it yields what is called at each step.

    A device, a disk or another host that does not answer holds up the main thread for good, and no
    exception comes. Time in which the whole process is suspended does not count.

    Args:
        minutes: the longest time between two steps; 0: any.
        tidy: called before the end, in a thread of its own, to release what others would wait for.
    """
    if not minutes:
        yield lambda: None
        return
    interval = 60 * minutes / _LOOKS_PER_LIMIT
    latest = [time.monotonic()]
    done = threading.Event()

    def step() -> None:
        latest[0] = time.monotonic()

    def watch() -> None:
        looked = time.monotonic()
        while not done.wait(interval):
            now = time.monotonic()
            # A look that comes late means that this process was suspended as a whole (Ctrl-Z, a
            # scheduler, a frozen container), which is no stall.
            latest[0] += max(0.0, now - looked - 2 * interval)
            looked = now
            if now - latest[0] > 60 * minutes:
                tidy()
                print(
                    f"no training step for {minutes:g} minutes (run.stall_minutes): a device, a "
                    "disk or another host does not answer; --resume goes on from the latest "
                    "checkpoint",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                end_now(RETRY_STATUS)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield step
    finally:
        done.set()
