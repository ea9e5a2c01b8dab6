"""What a part of the benchmark is: the same work by several sides, and what a side reports."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Size = Literal["small", "full"]
"""What a machine can do in reasonable time: `small` on a CPU, `full`, the paper's, elsewhere."""


@dataclass(frozen=True)
class Job:
    """What a side is asked to do, in a process of its own.

    Attributes:
        folder: the part's folder, with what its `prepare` made; outputs go here too.
        size: see `Size`.
        variant: one of the part's.
        threads: cores that the side may use, workers included.
    """

    folder: Path
    size: Size
    variant: str
    threads: int


@dataclass(frozen=True)
class Measurement:
    """What a side did.

    Attributes:
        seconds: of each timed repetition of the work, after those that warm up; of CPU or wall
            as the part says.
        units: how much one repetition made (patches, cases), for rates.
        peak_bytes: most host memory above what the process held before the work; None: not told.
        device_bytes: likewise of the accelerator.
        values: what else is worth saying, by name.
    """

    seconds: list[float]
    units: float = 1
    peak_bytes: int | None = None
    device_bytes: int | None = None
    values: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """One of those compared.

    Attributes:
        name: as the table has it: "kitsjax", "nnU-Net".
        run: does the work and times it; imports what it needs itself.
        needs: importable names it cannot do without; the side is left out, by name, where one
            is missing.
        variants: those it takes part in; empty: all.
    """

    name: str
    run: Callable[[Job], Measurement]
    needs: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A row or more of the table.

    Attributes:
        name: as `--only` takes it.
        work: what every side does, with its sizes, in one line.
        sides: kitsjax first, which the others are compared with.
        goal: how many times faster than the first peer kitsjax is to be, by platform ("cpu",
            "gpu"); absent: only reported.
        variants: rows of the part; every side does each.
        prepare: makes what the sides read in the part's folder, once, before any is timed.
        check: compares what the sides left in the folder; numbers for the table by name.
        threads: cores a side may use; 0: all there are.
    """

    name: str
    work: str
    sides: tuple[Side, ...]
    goal: dict[str, float] = field(default_factory=dict)
    variants: tuple[str, ...] = ("",)
    prepare: Callable[[Job], None] | None = None
    check: Callable[[Job], dict[str, float]] | None = None
    threads: int = 0


def time_calls(
    work: Callable[[], object], repeats: int, warm_up: int = 1, *, cpu: bool = False
) -> list[float]:
    """Seconds of each of `repeats` calls, after `warm_up` that don't count.

    Args:
        work: returns once all is done, on the device too.
        cpu: CPU seconds of this process over all its threads, which other work on the machine
            disturbs less; else wall time.
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
    """Most host memory of this process and its finished children, beyond what it held before.

    with PeakMemory() as peak:
        work()
    peak.bytes
    """

    bytes = 0

    def __enter__(self) -> "PeakMemory":
        self._before = _memory_bytes("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        # Of the largest child only: what several held at once the system does not tell.
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _RSS_UNIT
        self.bytes = max(_memory_bytes("VmHWM") - self._before, children)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _memory_bytes(name: str) -> int:
    """VmRSS, what this process holds, or VmHWM, the most it held; elsewhere than on Linux, that.

    Not getrusage where it can be helped: on Linux its peak is no less than what the process that
    started this one held at that moment.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
