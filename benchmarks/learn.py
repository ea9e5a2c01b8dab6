"""What is learned for the same steps and the same minutes: kitsjax beside nnU-Net's own trainer."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.hardware import (
    describe_machine,
    describe_packages,
    is_installed,
    list_items,
    measured_notes,
)
from benchmarks.learn_contenders import Contender, Kitsjax, NnUNet
from benchmarks.learn_figure import plot_learning
from benchmarks.learn_nnunet_process import find_torch_device
from benchmarks.learn_scores import Comparison
from benchmarks.learn_table import Comparisons, compare_all, to_table
from benchmarks.learn_task import LearnOptions, Task, make_task, read_settings
from benchmarks.learn_trainings import Training, run_trainings
from benchmarks.results import write_results
from kitsjax.config import to_toml
from kitsjax.errors import InputError
from kitsjax.infer.postprocess import get_steps
from kitsjax.report.drawing import save_figure
from kitsjax.report.statistics import MeanInterval
from kitsjax.report.table_format import to_text
from kitsjax.settings import Settings

WORK = (
    "Dice after the same steps and after the same minutes of training, kitsjax and nnU-Net's own "
    "trainer on the same cases, as a table and a figure"
)

FILES = ("learn.md", "learn.json", "learn.png")


def check_learn(options: LearnOptions) -> Settings:
    """Refuse wrong options, and a missing nnU-Net, before anything is made.

    Returns:
        kitsjax's settings.

    Raises:
        InputError: An option is wrong, nnunetv2 is not installed, or JAX and PyTorch do not both
            have an accelerator.
    """
    settings = read_settings(options)
    if not is_installed("nnunetv2"):
        raise InputError("learn: nnunetv2 is not installed; install the extra [bench]")
    kinds = describe_machine()["accelerators"], find_torch_device()
    if (kinds[0] == "none") != (kinds[1] == "cpu"):
        raise InputError(
            f"learn: JAX has accelerators {kinds[0]} and PyTorch computes on {kinds[1]}, so that "
            "the contenders would not have the same device; install both for it, or hide it "
            "(CUDA_VISIBLE_DEVICES=)"
        )
    return settings


def run_learn(output: Path, folder: Path, options: LearnOptions, seeds: int) -> str:
    """Train, predict and score every contender, and write `FILES` into `output`.

    Args:
        output: folder of the results.
        folder: folder of inputs and trainings; a training that it has is not repeated.
        options: what the user has chosen.
        seeds: number of trainings of each contender.

    Returns:
        The table as text.

    Raises:
        InputError: The data set cannot be used, or a training failed.
    """
    settings = check_learn(options)
    folder.mkdir(parents=True, exist_ok=True)
    task = make_task(settings, options.test, folder)
    contenders: list[Contender] = [Kitsjax(), *map(NnUNet, options.rates)]
    for contender in contenders:
        print(f"learn: {contender.name}, preprocessing", flush=True)
        contender.prepare(task)
    trainings = run_trainings(task, contenders, range(seeds))
    comparisons = compare_all(trainings)
    table = to_table(comparisons, trainings, make_notes(task, trainings))
    found = to_json(task, trainings, comparisons)
    write_results(output / "learn", table, found)
    save_figure(plot_learning(comparisons), output / "learn.png")
    return to_text(table)


def make_notes(task: Task, trainings: dict[str, list[Training]]) -> list[str]:
    """Say what was compared, with which machine and packages."""
    settings, runs = task.settings, [run for found in trainings.values() for run in found]
    counts = {run.contender: run.trained.parameters for run in runs}
    seeds = len({run.seed for run in runs})
    patch = " x ".join(map(str, settings.sampling.patch_shape))
    steps = ", ".join(f"{name} = {value}" for name, value in get_steps(settings.predict).items())
    return [
        f"Data: {task.data}.",
        f"Both: {settings.train.epochs} epochs, {settings.sampling.batch_size} patches of {patch} "
        f"in a batch, {settings.preprocess.spacing_mm:g} mm, the same cases to train on and "
        f"validate with, {seeds} seeds; parameters without deep supervision outputs: "
        f"{list_items(counts)}. Steps of post-processing of both: {steps or 'none'}.",
        "A score is the mean over cases and seeds. Its difference is paired by case, and its "
        "interval is of its mean over cases (BCa bootstrap). Minutes are wall time from the start "
        "of the training process to its last model file, importing and compiling included and "
        "preprocessing and prediction excluded; for the same minutes the slower contender's whole "
        "schedule is shortened so that it should end in the quicker one's.",
        "kitsjax predicts with the epoch that was best in validation, nnU-Net with the last, "
        "mirrored, which are their defaults; the held-out cases are those of validation. "
        f"kitsjax's way back to the CT's grid is predict.resample = {settings.predict.resample}.",
        *measured_notes(describe_machine(), describe_packages()),
    ]


def to_json(
    task: Task, trainings: dict[str, list[Training]], comparisons: Comparisons
) -> dict[str, Any]:
    """Return the task, every training with its scores case by case, and the comparisons."""
    return {
        "data": task.data,
        "settings": to_toml(task.settings),
        "machine": describe_machine(),
        "packages": describe_packages(),
        "trainings": {equal: [asdict(run) for run in runs] for equal, runs in trainings.items()},
        "comparisons": {
            equal: {
                test: {
                    baseline: {
                        column: {name: _fields(found) for name, found in classes.items()}
                        for column, classes in scores.items()
                    }
                    for baseline, scores in baselines.items()
                }
                for test, baselines in tests.items()
            }
            for equal, tests in comparisons.items()
        },
    }


def _fields(comparison: Comparison) -> dict[str, Any]:
    fields = comparison._asdict()
    return {
        name: {n: None if math.isnan(v) else v for n, v in value._asdict().items()}
        if isinstance(value, MeanInterval)
        else value
        for name, value in fields.items()
    }
