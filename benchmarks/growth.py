"""The cost of each stage against its size: measured, fitted, drawn. Nothing worse than linear."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.growth_figure import Curve, plot_growth
from benchmarks.growth_stages import STAGES
from benchmarks.process import last_line, run_alone
from kitsjax.errors import InputError
from kitsjax.files import write_text
from kitsjax.parallel import THREAD_VARIABLES
from kitsjax.report.drawing import save_figure

Say = Callable[[str], None]

MOST = 1.2
"""An exponent up to this counts as linear: what no longer fits the processor's caches costs more a
voxel, and so does a machine that others work on."""


def run_growth(output: Path, work: Path, say: Say) -> list[dict]:
    """Measure all stages; write `growth.json` and `growth.png` into `output`.

    Args:
        work: for what the stages read and write.
        say: is told each curve as it comes.

    Returns:
        The rows of `measure_growth`.

    Raises:
        InputError: a stage failed.
    """
    rows = measure_growth(work, output / "logs", say)
    curves = fit_curves(rows)
    exponents = [curve._asdict() | {"linear": curve.exponent <= MOST} for curve in curves]
    text = json.dumps({"points": rows, "curves": exponents}, indent=1)
    write_text(output / "growth.json", text + "\n")
    save_figure(plot_growth(curves, MOST), output / "growth.png")
    return rows


def measure_growth(folder: Path, logs: Path, say: Say) -> list[dict]:
    """Every point of every stage, in processes of their own, on one core's BLAS and the CPU.

    Returns:
        Rows with stage, axis (what is counted), size, cost (its name and unit) and value.
    """
    rows: list[dict] = []
    for made in (folder, logs):
        made.mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        points = list(stage.parameters)
        groups = [[point] for point in points] if stage.alone else [points]
        with TemporaryDirectory(dir=folder) as into:
            if stage.prepare:
                _measure(name, Path(into), [], logs)
            measured = [row for group in groups for row in _measure(name, Path(into), group, logs)]
        for curve in fit_curves(measured):
            say(f"growth: {curve.title}, {curve.cost} ~ {curve.axis} ** {curve.exponent:.2f}")
        rows += measured
    return rows


def _measure(stage: str, folder: Path, parameters: Sequence[int], logs: Path) -> list[dict]:
    log, result = logs / f"growth-{stage}.log", folder / "result.json"
    command = [sys.executable, "-m", "benchmarks.growth_stages"]
    # Threads that wait for each other would count as CPU seconds.
    single = dict.fromkeys(THREAD_VARIABLES, "1")
    status = run_alone(
        [*command, str(result), stage, str(folder), *map(str, parameters)],
        {**single, "JAX_PLATFORMS": "cpu"}, log,
    )  # fmt: skip
    if status:
        raise InputError(f"growth of {stage}: exit status {status} ({last_line(log)}); see {log}")
    rows: list[dict] = json.loads(result.read_text())
    return rows


def fit_curves(rows: Sequence[dict]) -> list[Curve]:
    """The rows' curves, in order, each with its exponent."""
    curves = []
    for stage, cost in dict.fromkeys((row["stage"], row["cost"]) for row in rows):
        points = sorted(
            (row["size"], row["value"])
            for row in rows
            if (row["stage"], row["cost"]) == (stage, cost)
        )
        sizes, values = (list(numbers) for numbers in zip(*points, strict=True))
        known = STAGES[stage]
        curves.append(
            Curve(known.title, known.axis, cost, sizes, values, fit_exponent(sizes, values))
        )
    return curves


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line through the logarithms: 1 where the cost is proportional to the size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
