"""Runs parts of the benchmark: sides in turn, each in a process of its own, several rounds."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kitsjax.benchmark.hardware import is_installed
from kitsjax.benchmark.part import Job, Measurement, Part, Size
from kitsjax.errors import InputError
from kitsjax.parallel import THREAD_VARIABLES, cores

Say = Callable[[str], None]

# What numeric libraries read when they are loaded.
_THREAD_VARIABLES = (
    *THREAD_VARIABLES, "nnUNet_n_proc_DA", "nnUNet_def_n_proc",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A variant of a part as measured: a line of the table.

    Attributes:
        first: of the part's rows.
        measurements: by side, one a round, in the order of the rounds.
        failures: by side, why it was left out.
        checks: what the part's `check` found.
    """

    part: str
    variant: str
    first: bool
    work: str
    goal: float | None
    threads: int
    measurements: dict[str, list[Measurement]]
    failures: dict[str, str] = field(default_factory=dict)
    checks: dict[str, float] = field(default_factory=dict)

    def seconds(self, side: str) -> float:
        """Median over the rounds of a side's median seconds a unit."""
        return statistics.median(_per_unit(m) for m in self.measurements[side])

    @property
    def peers(self) -> list[str]:
        """Every side that was measured but the first, kitsjax."""
        return list(self.measurements)[1:]

    def ratios(self, peer: str) -> list[float]:
        """How many times faster the first side is, in each round."""
        ours, theirs = next(iter(self.measurements.values())), self.measurements[peer]
        return [_per_unit(b) / _per_unit(a) for a, b in zip(ours, theirs, strict=True)]

    def ratio(self, peer: str) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios(peer))


def run_part(
    part: Part, folder: Path, size: Size, platform: str, rounds: int, say: Say
) -> list[Row]:
    """Measure every variant of a part; sides alternate, so that a machine's moods hit all.

    Args:
        folder: for what the sides read and write; a part has a folder of its own in it.
        platform: "cpu" or "gpu", which the goal depends on.
        say: is told each measurement as it comes.

    Raises:
        InputError: what the sides read cannot be made, or kitsjax itself failed.
    """
    threads = part.threads or cores()
    job = Job(folder / part.name / size, size, "", threads)
    job.folder.mkdir(parents=True, exist_ok=True)
    if part.prepare is not None:
        say(f"{part.name}: preparing")
        _call(part, "prepare", job)
    return [_run_variant(part, variant, job, platform, rounds, say) for variant in part.variants]


def _run_variant(part: Part, variant: str, job: Job, platform: str, rounds: int, say: Say) -> Row:
    job = Job(job.folder, job.size, variant, job.threads)
    sides = [s for s in part.sides if not s.variants or variant in s.variants]
    measurements: dict[str, list[Measurement]] = {}
    failures: dict[str, str] = {}
    for round_number in range(rounds):
        for side in sides:
            if side.name in failures:
                continue
            missing = [name for name in side.needs if not is_installed(name)]
            try:
                if missing:
                    raise InputError(f"{', '.join(missing)} not installed: pip install '.[bench]'")
                result = Measurement(**_call(part, str(part.sides.index(side)), job))
            except InputError as error:
                if side is sides[0]:
                    raise
                # A round without it would pair measurements that do not belong together.
                failures[side.name] = str(error)
                measurements.pop(side.name, None)
                say(f"{_title(part, variant)}: {side.name} left out: {error}")
                continue
            measurements.setdefault(side.name, []).append(result)
            say(
                f"{_title(part, variant)}: {side.name}, round {round_number + 1} of {rounds}: "
                f"{_per_unit(result):.4g} s"
            )
    checks = _call(part, "check", job) if part.check is not None and not failures else {}
    return Row(
        part.name, variant, variant == part.variants[0], part.work, part.goal.get(platform),
        job.threads,
        measurements, failures, checks,
    )  # fmt: skip


def _call(part: Part, side: str, job: Job) -> dict:
    """What a child process returns; its output goes to a log in the part's folder."""
    result, log = job.folder / "result.json", job.folder / f"{side}.log"
    result.unlink(missing_ok=True)
    fields = json.dumps({**vars(job), "folder": str(job.folder)})
    threads = dict.fromkeys(_THREAD_VARIABLES, str(job.threads))
    command = [sys.executable, "-m", "kitsjax.benchmark.child", part.name, side, fields]
    with log.open("w") as output:
        status = subprocess.run(
            [*command, str(result)], env={**os.environ, **threads}, stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode  # fmt: skip
    if status:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise InputError(f"{part.name}: exit status {status} ({last[0]}); see {log}")
    found: dict = json.loads(result.read_text()) or {}
    return found


def _per_unit(measurement: Measurement) -> float:
    return statistics.median(measurement.seconds) / measurement.units


def _title(part: Part, variant: str) -> str:
    return f"{part.name} ({variant})" if variant else part.name
