"""The whole benchmark: which parts, at which size, and the files that tell of it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import Row, run_part
from benchmarks.growth import run_growth
from benchmarks.hardware import describe_machine, describe_packages
from benchmarks.part import Size
from benchmarks.parts import PARTS
from benchmarks.table import to_json, to_table
from kitsjax.errors import InputError
from kitsjax.files import check_folder, write_text
from kitsjax.report.table_format import to_markdown, to_text

GROWTH = "growth"
"""The part that has no peers: cost against size, drawn."""


def list_parts() -> str:
    """A line a part: its name and what its sides do."""
    rows = {name: part.work for name, part in PARTS.items()}
    rows[GROWTH] = "the cost of each stage of kitsjax against its size, drawn"
    return "\n".join(f"{name:<11} {work}" for name, work in rows.items())


def run_benchmark(
    output: str | Path,
    only: Sequence[str] | None = None,
    size: Size | None = None,
    rounds: int = 3,
    work: str | Path | None = None,
) -> str:
    """Measure and write `benchmark.md` and `benchmark.json`; again after every part.

    Args:
        only: names of parts; None: all.
        size: None: `full` where JAX finds an accelerator, `small` elsewhere.
        rounds: times that the sides take turns.
        work: folder for what the sides read and write, kept for another run; None: a temporary one.

    Returns:
        The table as text.

    Raises:
        InputError: no such part, or kitsjax itself failed.
    """
    names = list(dict.fromkeys(only or (*PARTS, GROWTH)))
    unknown = [name for name in names if name not in PARTS and name != GROWTH]
    if unknown:
        raise InputError(f"--only {unknown[0]}: no such part; one of {', '.join([*PARTS, GROWTH])}")
    if rounds < 1:
        raise InputError(f"--rounds {rounds}: take at least 1")
    check_folder(output)
    _check_results(Path(output) / "benchmark.json", names)
    if work:
        check_folder(work)
    machine, packages = describe_machine(), describe_packages()
    platform = "cpu" if machine["accelerators"] == "none" else "gpu"
    size = size or ("small" if platform == "cpu" else "full")
    with tempfile.TemporaryDirectory(prefix="kitsjax-benchmark-") as temporary:
        folder = Path(work or temporary).resolve()
        rows: list[Row] = []
        for name in names:
            if name == GROWTH:
                run_growth(Path(output), folder / GROWTH, _say)
                continue
            logs = Path(output) / "logs"
            rows += run_part(PARTS[name], folder, logs, size, platform, rounds, _say)
            table = to_table(rows, machine, packages)
            found = json.dumps(to_json(rows, machine, packages), indent=1)
            try:
                write_text(Path(output) / "benchmark.md", to_markdown(table))
                write_text(Path(output) / "benchmark.json", found + "\n")
            except InputError:
                # What took so long to measure is not lost with the disk.
                _say(to_text(table))
                raise
    return to_text(to_table(rows, machine, packages)) if rows else ""


def _check_results(path: Path, names: Sequence[str]) -> None:
    """Refuse to replace an earlier run's results by those of fewer parts."""
    # Growth has files of its own.
    if not path.exists() or set(names) == {GROWTH}:
        return
    try:
        earlier = [row["part"] for row in json.loads(path.read_text())["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a benchmark's; choose another --output") from error
    lost = [part for part in dict.fromkeys(earlier) if part not in names]
    if lost:
        raise InputError(
            f"{path}: has results of {', '.join(lost)} that would be lost; choose another --output"
        )


def _say(text: str) -> None:
    print(text, flush=True)
