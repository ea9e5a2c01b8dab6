"""What a benchmark is: the same work for several contenders, and what each of them reports."""

import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kitsjax.huge_pages import choose_variables

Size = Literal["small", "full"]
"""`small` takes minutes on a CPU; `full` has the paper's sizes and is for accelerators."""

AS_COMMANDS = choose_variables(os.environ)
"""What bin/train.py and bin/predict.py put into their environment, for kitsjax's contenders."""


@dataclass(frozen=True)
class Job:
    """What a contender is asked to do, in a process of its own.

    Attributes:
        folder: the benchmark's folder: `prepare` has written the inputs there, and outputs go
            there too.
        size: size of the inputs.
        variant: one of the benchmark's variants.
        threads: number of cores that the contender may use, its workers included.
    """

    folder: Path
    size: Size
    variant: str
    threads: int


@dataclass(frozen=True)
class Measurement:
    """What a contender reports.

    Attributes:
        seconds: duration of each timed repetition, without those that warm up; CPU seconds or
            wall time, as the benchmark says.
        units: number of patches, steps or cases in a repetition, to divide the seconds by.
        peak_bytes: peak host memory, less what the process held before; None: not measured.
        device_bytes: peak memory of the accelerator; None: not measured.
        values: more numbers and texts for the table's notes, by name.
    """

    seconds: list[float]
    units: float = 1
    peak_bytes: int | None = None
    device_bytes: int | None = None
    values: dict[str, float | str] = field(default_factory=dict)

    @property
    def seconds_per_unit(self) -> float:
        """Median over the repetitions."""
        return statistics.median(self.seconds) / self.units


@dataclass(frozen=True)
class Contender:
    """kitsjax or a baseline.

    Attributes:
        name: its name in the table, such as "nnU-Net".
        run: does the work and times it. It imports its libraries itself.
        needs: modules that it imports. Where one is not installed, the contender is left out and
            the table says so.
        variants: the variants that it takes part in; empty: all.
        variables: environment variables of its process.
    """

    name: str
    run: Callable[[Job], Measurement]
    needs: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """Work that kitsjax and its baselines are measured at.

    Attributes:
        name: its name for `--only`.
        work: one line that says what every contender does, and at which sizes.
        contenders: kitsjax first, which each baseline is compared with.
        goal: how many times faster than the first baseline kitsjax should be, by platform ("cpu",
            "gpu"); without an entry the ratio is only reported.
        variants: each is a row of the table, measured with every contender.
        prepare: writes the inputs into the job's folder, once, before anything is timed.
        check: compares the outputs in the job's folder; returns numbers for the table's notes.
        threads: number of cores that a contender may use; 0: all.
    """

    name: str
    work: str
    contenders: tuple[Contender, ...]
    goal: dict[str, float] = field(default_factory=dict)
    variants: tuple[str, ...] = ("",)
    prepare: Callable[[Job], None] | None = None
    check: Callable[[Job], dict[str, float]] | None = None
    threads: int = 0

    def contenders_in(self, variant: str) -> list[Contender]:
        """Return the contenders that take part in a variant."""
        return [c for c in self.contenders if not c.variants or variant in c.variants]
