"""The cost of each stage against its size: measured, fitted, drawn."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.definition import AS_COMMANDS
from benchmarks.run_process import run_module
from benchmarks.scaling_figure import Curve, plot_scaling
from benchmarks.scaling_stages import STAGES, Point
from kitsjax.files import write_text
from kitsjax.process_pool import THREAD_VARIABLES
from kitsjax.report.drawing import save_figure

MAX_EXPONENT = 1.2
"""A cost with at most this exponent counts as linear. Proportional costs exceed 1 where the data
outgrow the processor's caches, or where other programs use the machine."""


def run_scaling(output: Path, work: Path) -> None:
    """Measure all stages, and write `scaling.json` and `scaling.png` into `output`.

    Args:
        work: folder of the stages' inputs and outputs.

    Raises:
        InputError: A stage failed.
    """
    points = measure_scaling(work, output / "logs")
    curves = fit_curves(points)
    exponents = [curve._asdict() | {"linear": curve.exponent <= MAX_EXPONENT} for curve in curves]
    text = json.dumps({"points": points, "curves": exponents}, indent=1)
    write_text(output / "scaling.json", text + "\n")
    save_figure(plot_scaling(curves, MAX_EXPONENT), output / "scaling.png")


def measure_scaling(folder: Path, logs: Path) -> list[Point]:
    """Measure every stage at each of its sizes, in processes of their own on the CPU.

    Exponents are printed as they are found.
    """
    points: list[Point] = []
    for needed in (folder, logs):
        needed.mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        groups = [[n] for n in stage.parameters] if stage.alone else [list(stage.parameters)]
        with TemporaryDirectory(dir=folder) as temporary:
            if stage.prepare:
                _measure(name, Path(temporary), [], logs)
            measured = [
                point for group in groups for point in _measure(name, Path(temporary), group, logs)
            ]
        for curve in fit_curves(measured):
            exponent = f"{curve.exponent:.2f}"
            print(f"scaling: {curve.title}, {curve.cost} ~ {curve.axis} ** {exponent}", flush=True)
        points += measured
    return points


def _measure(stage: str, folder: Path, parameters: Sequence[int], logs: Path) -> list[Point]:
    # One BLAS thread, since threads that wait for each other would count as CPU seconds. Devices
    # are forced on the host, so that the figure can be made on any machine.
    variables = dict.fromkeys(THREAD_VARIABLES, "1") | {"JAX_PLATFORMS": "cpu"} | AS_COMMANDS
    points: list[Point] = run_module(
        f"scaling of {stage}", "benchmarks.scaling_stages",
        [stage, str(folder), *map(str, parameters)], variables, logs / f"scaling-{stage}.log",
    )  # fmt: skip
    return points


def fit_curves(points: Sequence[Point]) -> list[Curve]:
    """Gather the points of each stage and cost, and fit their exponents."""
    curves = []
    for name, cost in dict.fromkeys((point["stage"], point["cost"]) for point in points):
        pairs = sorted(
            (point["size"], point["value"])
            for point in points
            if (point["stage"], point["cost"]) == (name, cost)
        )
        sizes, values = (list(numbers) for numbers in zip(*pairs, strict=True))
        stage = STAGES[name]
        exponent = fit_exponent(sizes, values)
        curves.append(Curve(stage.title, stage.axis, cost, sizes, values, exponent))
    return curves


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit a power law: the slope between the logarithms, 1 for a proportional cost."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
