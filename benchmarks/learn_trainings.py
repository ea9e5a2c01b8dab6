"""The trainings of the learning benchmark: in turns, for the same steps or the same minutes."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.hardware import describe_machine, describe_packages
from benchmarks.learn_contenders import Contender, Trained
from benchmarks.learn_scores import Scores, score_predictions
from benchmarks.learn_task import Task
from benchmarks.run_once import run_once

STEPS, MINUTES = "same steps", "same minutes"
"""What is equal between the contenders: the number of steps, or the wall time of the training."""


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        contender: name of the contender.
        seed: its seed.
        batches: number of batches in an epoch.
        trained: what the training reported.
        scores: scores of its predictions, by test set.
    """

    contender: str
    seed: int
    batches: int
    trained: Trained
    scores: dict[str, Scores]


def run_trainings(
    task: Task, contenders: Sequence[Contender], seeds: Sequence[int]
) -> dict[str, list[Training]]:
    """Run all trainings, contenders taking turns, and return them by what is equal between them.

    For the same minutes, the quickest contender's trainings of the same steps are taken, and every
    slower one trains again with so many batches in an epoch that its whole schedule ends in the
    quickest one's time.

    Raises:
        InputError: A training failed.
    """
    batches = {contender.name: task.settings.train.batches for contender in contenders}
    found = {STEPS: _take_turns(task, contenders, seeds, batches)}
    minutes = {
        name: fit_batches(
            task.settings.train.batches,
            [training.trained for training in found[STEPS] if training.contender == name],
            quickest_seconds(found[STEPS]),
        )
        for name in batches
    }
    return found | {MINUTES: _take_turns(task, contenders, seeds, minutes)}


def quickest_seconds(trainings: Sequence[Training]) -> float:
    """Return the median seconds of the contender whose median is least."""
    names = {training.contender for training in trainings}
    return min(
        statistics.median(t.trained.seconds for t in trainings if t.contender == name)
        for name in names
    )


def fit_batches(batches: int, trained: Sequence[Trained], seconds: float) -> int:
    """Return the number of batches in an epoch with which a contender's training ends in time.

    What is outside of the epochs takes as long with any number of batches. Validation counts as
    a part of the batches. A contender that is quick enough keeps its number.

    Args:
        batches: number with which the trainings were measured, and the most that is returned.
        trained: what the contender's trainings reported.
        seconds: wall time that the training may take.
    """
    whole = statistics.median(each.seconds for each in trained)
    if whole <= seconds:
        return batches
    epochs = statistics.median(each.epoch_seconds for each in trained)
    outside = whole - epochs
    return max(1, min(batches, int(batches * (seconds - outside) / epochs)))


def _take_turns(
    task: Task, contenders: Sequence[Contender], seeds: Sequence[int], batches: dict[str, int]
) -> list[Training]:
    return [
        _finish(task, contender, seed, batches[contender.name])
        for seed in seeds
        for contender in contenders
    ]


def _finish(task: Task, contender: Contender, seed: int, batches: int) -> Training:
    """Train, predict and score; what an earlier start has finished is read."""
    name = f"{contender.name}-seed-{seed}-batches-{batches}".replace(", ", "-").replace(" ", "-")
    folder = task.folder / "trainings" / name

    def train() -> dict[str, Any]:
        print(f"learn: {name}, training", flush=True)
        return asdict(contender.train(task, folder, seed, batches))

    where = {"machine": describe_machine(), "packages": describe_packages()}
    trained = Trained(**run_once(folder, "trained.json", contender.asks(task) | where, train))
    scores = {}
    for test, cases in task.tests.items():
        masks = folder / "masks" / cases.name

        def predict(masks: Path = masks, cases: Path = cases) -> Scores:
            print(f"learn: {name}, predicting {cases.name}", flush=True)
            contender.predict(task, folder, cases, masks)
            return score_predictions(cases, masks)

        # The links' targets, too: a case of the same name may be another one.
        tested = sorted((path.name, os.path.realpath(path)) for path in cases.iterdir())
        asked = {"trained": asdict(trained), "cases": list(map(list, tested))}
        scores[test] = run_once(masks, "scores.json", asked, predict)
    return Training(contender.name, seed, batches, trained, scores)
