"""Runs parts of the benchmark: sides in turn, each in a process of its own, several rounds."""

import hashlib
import json
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.hardware import describe_packages, is_installed
from benchmarks.part import Job, Measurement, Part, Size
from benchmarks.process import last_line, run_alone
from kitsjax.errors import InputError
from kitsjax.files import write_text
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
    part: Part, folder: Path, logs: Path, size: Size, platform: str, rounds: int, say: Say
) -> list[Row]:
    """Measure every variant of a part; sides alternate, so that a machine's moods hit all.

    Args:
        folder: for what the sides read and write; a part has a folder of its own in it.
        logs: folder for what the sides print.
        platform: "cpu" or "gpu", which the goal depends on.
        say: is told each measurement as it comes.

    Raises:
        InputError: what the sides read cannot be made, or kitsjax itself failed.
    """
    job = Job(folder / part.name / size, size, "", part.threads or cores())
    logs.mkdir(parents=True, exist_ok=True)
    _prepare(part, job, logs, say)
    return [
        _run_variant(part, variant, job, logs, platform, rounds, say) for variant in part.variants
    ]


def _prepare(part: Part, job: Job, logs: Path, say: Say) -> None:
    """Make what the sides read, unless just this benchmark made it in an earlier run."""
    stamp = job.folder / "prepared.json"
    made_by = {"sources": _digest(), "packages": describe_packages(), "threads": job.threads}
    if job.folder.exists() and any(job.folder.iterdir()):
        if not stamp.exists():
            raise InputError(
                f"{job.folder}: not made by the benchmark; remove it, or choose another --work"
            )
        if json.loads(stamp.read_text()) == made_by:
            return
        # Of another version, or left unfinished.
        shutil.rmtree(job.folder)
    write_text(stamp, "null\n")
    if part.prepare is not None:
        say(f"{part.name}: preparing")
        _call(part, "prepare", job, logs)
    write_text(stamp, json.dumps(made_by) + "\n")


def _digest() -> str:
    """Of the benchmark's own code, which decides what is prepared."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _run_variant(
    part: Part, variant: str, job: Job, logs: Path, platform: str, rounds: int, say: Say
) -> Row:
    job = replace(job, variant=variant)
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
                    raise InputError(
                        f"{', '.join(missing)} not installed; the extra [bench] has it"
                    )
                result = Measurement(**_call(part, str(part.sides.index(side)), job, logs))
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
    checks = _call(part, "check", job, logs) if part.check is not None and not failures else {}
    return Row(
        part.name, variant, variant == part.variants[0], part.work, part.goal.get(platform),
        job.threads,
        measurements, failures, checks,
    )  # fmt: skip


def _call(part: Part, side: str, job: Job, logs: Path) -> dict:
    """What a child process returns."""
    result = job.folder / "result.json"
    result.unlink(missing_ok=True)
    fields = json.dumps({**vars(job), "folder": str(job.folder)})
    command = [sys.executable, "-m", "benchmarks.child", part.name, side, fields]
    log = logs / f"{'-'.join(filter(None, (part.name, job.variant, side)))}.log"
    status = run_alone(
        [*command, str(result)], dict.fromkeys(_THREAD_VARIABLES, str(job.threads)), log
    )
    if status:
        raise InputError(f"{part.name}: exit status {status} ({last_line(log)}); see {log}")
    found: dict = json.loads(result.read_text()) or {}
    return found


def _per_unit(measurement: Measurement) -> float:
    return statistics.median(measurement.seconds) / measurement.units


def _title(part: Part, variant: str) -> str:
    return f"{part.name} ({variant})" if variant else part.name
