"""Time and peak memory of work in this process."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def time_calls(
    work: Callable[[], object], repeats: int, warm_up: int = 1, *, cpu: bool = False
) -> list[float]:
    """Time `repeats` calls of a function, after `warm_up` calls that are not timed.

    Args:
        work: returns when everything is done, on the device too.
        cpu: measure the CPU seconds of all threads of this process, which other work on the
            machine disturbs less than wall time.

    Returns:
        Seconds of each timed call.
    """
    clock = time.process_time if cpu else time.perf_counter
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(repeats):
        began = clock()
        work()
        seconds.append(clock() - began)
    return seconds


class PeakMemory:
    """Peak host memory of this process or its largest finished child, less what it held before.

    with PeakMemory() as peak:
        work()
    peak.bytes
    """

    bytes = 0

    def __enter__(self) -> "PeakMemory":
        self._before = _memory_bytes("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        # The system tells the peak of the largest child, not of all that ran at once.
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _RSS_UNIT
        self.bytes = max(_memory_bytes("VmHWM") - self._before, children)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _memory_bytes(name: str) -> int:
    """Read VmRSS, the memory that this process holds, or VmHWM, its peak.

    On Linux the peak that getrusage tells is never below the memory of the parent process when it
    started this one. Other systems have only that, for both names.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
