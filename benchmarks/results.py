"""The rows that benchmarks measured, as a table for readers and as JSON for programs."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.definition import Measurement
from benchmarks.hardware import measured_notes
from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.report.table_format import Column, Table, to_markdown, to_text

COLUMNS = tuple(
    Column(name)
    for name in (
        "benchmark", "kitsjax", "baseline", "its time", "times faster", "least to greatest",
        "goal", "host memory, MiB", "cores",
    )
)  # fmt: skip


def write_results(path: Path, table: Table, found: dict[str, Any]) -> None:
    """Write results as Markdown and JSON, to `path` with these suffixes.

    Raises:
        InputError: They cannot be written. The disk may be full, but what took hours is not lost
            with it: the table is printed.
    """
    try:
        write_text(path.with_suffix(".md"), to_markdown(table))
        write_text(path.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    except InputError:
        print(to_text(table), flush=True)
        raise


@dataclass(frozen=True)
class Row:
    """What was measured of a variant of a benchmark.

    Attributes:
        benchmark, variant, work, threads: as the benchmark defines them.
        goal: how many times faster than `rival` kitsjax should be, if there is a goal.
        rival: the benchmark's first baseline, whether it could be measured or not.
        measurements: each contender's measurements, one per round; kitsjax first.
        failures: why contenders were left out, by name.
        checks: what the benchmark's check returned.
    """

    benchmark: str
    variant: str
    work: str
    goal: float | None
    rival: str
    threads: int
    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    checks: dict[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The benchmark's name with the variant, if it has variants."""
        return f"{self.benchmark}, {self.variant}" if self.variant else self.benchmark

    @property
    def baselines(self) -> list[str]:
        """Names of the contenders that were measured, without kitsjax."""
        return list(self.measurements)[1:]

    def seconds(self, contender: str) -> float:
        """Return the median over the rounds of a contender's seconds per unit."""
        return statistics.median(m.seconds_per_unit for m in self.measurements[contender])

    def ratios(self, baseline: str) -> list[float]:
        """Return how many times faster than a baseline kitsjax is in each round."""
        ours, theirs = next(iter(self.measurements.values())), self.measurements[baseline]
        return [b.seconds_per_unit / a.seconds_per_unit for a, b in zip(ours, theirs, strict=True)]

    def ratio(self, baseline: str) -> float:
        """Return the median of the rounds' ratios."""
        return statistics.median(self.ratios(baseline))


def to_table(rows: Sequence[Row], machine: dict[str, str], packages: dict[str, str]) -> Table:
    """Make a table with a line for each baseline.

    Seconds are medians over the rounds of the median in a round. "times faster" is the median of
    the rounds' ratios; the least and the greatest of them stand beside it. Notes tell the machine
    and what else was measured.
    """
    notes = measured_notes(machine, packages)
    described = ""
    for row in rows:
        if row.benchmark != described:
            notes.append(f"{row.title}: {row.work}.")
        described = row.benchmark
        notes += [f"{row.title}: {note}." for note in _notes(row)]
    cells = tuple(line for row in rows for line in _table_lines(row))
    return Table("kitsjax beside its baselines", COLUMNS, cells, tuple(notes))


def to_json(
    rows: Sequence[Row], machine: dict[str, str], packages: dict[str, str]
) -> dict[str, Any]:
    """Return everything that was measured, round by round."""
    return {
        "machine": machine,
        "packages": packages,
        "rows": [
            {
                **asdict(row),
                "seconds": {contender: row.seconds(contender) for contender in row.measurements},
                "ratios": {baseline: row.ratio(baseline) for baseline in row.baselines},
            }
            for row in rows
        ],
    }


def _table_lines(row: Row) -> list[tuple[str, ...]]:
    """Make a line for each baseline; a single one if no baseline could be measured."""
    ours = next(iter(row.measurements))
    mine = _seconds(row.seconds(ours))
    if not row.baselines:
        return [(row.title, mine, *[""] * 5, _memory(row, [ours]), str(row.threads))]
    lines: list[tuple[str, ...]] = []
    for baseline in row.baselines:
        ratios = row.ratios(baseline)
        lines.append((
            row.title, mine, baseline, _seconds(row.seconds(baseline)),
            _number(row.ratio(baseline)), f"{_number(min(ratios))} to {_number(max(ratios))}",
            _goal(row, baseline), _memory(row, [ours, baseline]), str(row.threads),
        ))  # fmt: skip
    return lines


def _goal(row: Row, baseline: str) -> str:
    """Say whether the goal was reached; it is set against one baseline alone."""
    if row.goal is None or baseline != row.rival:
        return ""
    reached = "reached" if row.ratio(baseline) >= row.goal else "not reached"
    return f"{row.goal:.3g}: {reached}"


def _notes(row: Row) -> list[str]:
    """List what was measured besides time, and who was left out."""
    notes = [f"{name} {value:.4g}" for name, value in row.checks.items()]
    for contender, measurements in row.measurements.items():
        texts = [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in measurements[-1].values.items()
        ]
        device = [m.device_bytes for m in measurements if m.device_bytes is not None]
        if device:
            texts.append(f"device memory {statistics.median(device) / 2**30:.2f} GiB")
        if texts:
            notes.append(f"{contender}: {', '.join(texts)}")
    return notes + [f"{contender} left out: {why}" for contender, why in row.failures.items()]


def _memory(row: Row, contenders: Sequence[str]) -> str:
    """Format each contender's peak memory, its median over the rounds, where it was measured."""
    texts = []
    for contender in contenders:
        peaks = [m.peak_bytes for m in row.measurements[contender] if m.peak_bytes is not None]
        if peaks:
            texts.append(f"{statistics.median(peaks) / 2**20:.0f}")
    return " / ".join(texts)


def _seconds(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 0.9995 else f"{1000 * seconds:.3g} ms"


def _number(value: float) -> str:
    """Format with three digits, but never as a power of ten."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"
