"""The rows of a benchmark as a table for readers and as JSON for programs."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.compare import Row
from kitsjax.report.table_format import Column, Table

COLUMNS = tuple(
    Column(name)
    for name in (
        "part", "kitsjax", "peer", "its time", "times faster", "least to greatest", "goal",
        "host memory, MiB", "cores",
    )
)  # fmt: skip


def to_table(rows: Sequence[Row], machine: dict[str, str], packages: dict[str, str]) -> Table:
    """A line a peer, and notes on the machine and on what else was measured.

    Seconds are medians over rounds of the median within a round; "times faster" is the median of
    the rounds' ratios, beside the least and the greatest of them.
    """
    notes = [f"Measured on: {_listed(machine)}.", f"With {_listed(packages)}."]
    notes += [f"{_title(row)}: {note}." for row in rows for note in _notes(row)]
    cells = [tuple(line) for row in rows for line in _table_lines(row)]
    return Table("kitsjax beside its peers", COLUMNS, tuple(cells), tuple(notes))


def to_json(
    rows: Sequence[Row], machine: dict[str, str], packages: dict[str, str]
) -> dict[str, Any]:
    """Everything measured, the rounds one by one."""
    return {
        "machine": machine,
        "packages": packages,
        "rows": [
            {
                **asdict(row),
                "seconds": {side: row.seconds(side) for side in row.measurements},
                "ratios": {peer: row.ratio(peer) for peer in row.peers},
            }
            for row in rows
        ],
    }


def _table_lines(row: Row) -> list[list[str]]:
    """A line for each peer; one for a part that has none, or none that could be measured."""
    title, ours, goal = _title(row), next(iter(row.measurements)), ""
    mine = _seconds(row.seconds(ours))
    if not row.peers:
        return [[title, mine, *[""] * 5, _memory(row, [ours]), str(row.threads)]]
    lines = []
    for number, peer in enumerate(row.peers):
        ratios = row.ratios(peer)
        # The goal is set against the first peer; others are there for the reader.
        if row.goal is not None and number == 0:
            met = "reached" if row.ratio(peer) >= row.goal else "not reached"
            goal = f"{row.goal:.3g}: {met}"
        lines.append([
            title, mine, peer, _seconds(row.seconds(peer)), _number(row.ratio(peer)),
            f"{_number(min(ratios))} to {_number(max(ratios))}", goal if number == 0 else "",
            _memory(row, [ours, peer]), str(row.threads),
        ])  # fmt: skip
    return lines


def _notes(row: Row) -> list[str]:
    """What was measured beside time, and who was left out."""
    notes = [row.work] if row.first else []
    notes += [f"{name} {value:.4g}" for name, value in row.checks.items()]
    for side, measurements in row.measurements.items():
        values = measurements[-1].values
        texts = [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in values.items()
        ]
        device = [m.device_bytes for m in measurements if m.device_bytes is not None]
        if device:
            texts.append(f"device memory {statistics.median(device) / 2**30:.2f} GiB")
        if texts:
            notes.append(f"{side}: {', '.join(texts)}")
    return notes + [f"{side} left out: {why}" for side, why in row.failures.items()]


def _memory(row: Row, sides: Sequence[str]) -> str:
    """Of each side, the median over rounds; "" where it was not measured."""
    texts = []
    for side in sides:
        peaks = [m.peak_bytes for m in row.measurements[side] if m.peak_bytes is not None]
        if peaks:
            texts.append(f"{statistics.median(peaks) / 2**20:.0f}")
    return " / ".join(texts)


def _title(row: Row) -> str:
    return f"{row.part}, {row.variant}" if row.variant else row.part


def _seconds(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 0.9995 else f"{1000 * seconds:.3g} ms"


def _number(value: float) -> str:
    """Three digits, but never as a power of ten."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _listed(items: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items.items())
