"""Choose steps of post-processing by the scores of held-out cases, one after another.

A step is kept if the mean over the cases rises, the paired 95 % interval of the rise excludes 0,
and it changes `LEAST_CASES` cases or more. What rises is the mean of Dice and surface Dice over the
evaluation classes, as KiTS ranks by both. nnU-Net asks instead that no class falls; with a dozen
trials on the same cases that keeps what helped one case by chance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kitsjax.infer.postprocess import STEPS
from kitsjax.labels import LabelScheme
from kitsjax.report.statistics import MeanInterval, mean_interval
from kitsjax.report.table_format import Column, Table
from kitsjax.tune.score_steps import Choice

LEAST_CHANGE = 1e-6
"""A case whose score changes by no more is neither better nor worse."""


LEAST_CASES = 6
"""A step is kept only if it changes so many cases.

The bootstrap's interval of a few changes of one sign never holds 0. By chance six changes all rise
in one of 64 times, five in one of 32, which is more often than the 2.5 % that an interval allows.
"""


class Trial(NamedTuple):
    """What one more step changes.

    Attributes:
        name, value: the step.
        choice: all steps with it, by number in the list of choices.
        gain: mean change over the cases, of the mean over classes and both scores.
        classes: (class, 2) mean change of Dice and surface Dice.
        better, worse: number of cases whose score rises and falls.
    """

    name: str
    value: Any
    choice: int
    gain: MeanInterval
    classes: np.ndarray
    better: int
    worse: int

    @property
    def helps(self) -> bool:
        """Whether the rise is more than chance."""
        return self.gain.low > 0 and self.better + self.worse >= LEAST_CASES


class Round(NamedTuple):
    """The trials of one more step, and the one that is kept; None ends the search."""

    trials: list[Trial]
    kept: Trial | None


def choose_steps(scores: np.ndarray, choices: Sequence[Choice]) -> list[Round]:
    """Add steps as long as one helps, each time the one that helps most.

    Args:
        scores: (case, choice, class, 2) Dice and surface Dice.
        choices: the list of choices, the present one first.
    """
    rounds: list[Round] = []
    present = 0
    while not rounds or rounds[-1].kept:
        trials = [
            _try(scores, present, number, choices)
            for number, choice in enumerate(choices)
            if _added(choices[0], choices[present], choice) is not None
        ]
        # Of steps that help alike the first is kept, in the order in which they are applied.
        trials.sort(key=lambda trial: list(STEPS).index(trial.name))
        helpful = [trial for trial in trials if trial.helps]
        kept = max(helpful, key=lambda trial: trial.gain.mean, default=None)
        rounds.append(Round(trials, kept))
        present = kept.choice if kept else present
    return rounds


def chosen_steps(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the value of each step that was kept."""
    return {each.kept.name: each.kept.value for each in rounds if each.kept}


def total_gain(
    scores: np.ndarray, choices: Sequence[Choice], steps: Mapping[str, Any]
) -> MeanInterval:
    """Return the change that all chosen steps make together."""
    wanted = tuple(steps.get(name, value) for name, value in zip(STEPS, choices[0], strict=True))
    return mean_interval(_differences(scores, 0, choices.index(wanted)).tolist())


def trial_table(rounds: Sequence[Round], cases: int, scheme: LabelScheme) -> Table:
    """Make a table of all trials, round by round; a star marks the step that is kept."""
    titles = scheme.titles.values()
    columns = [Column(title, "Change of Dice") for title in titles]
    columns += [Column(title, "Change of surface Dice") for title in titles]
    rows = []
    for number, each in enumerate(rounds, start=1):
        for trial in each.trials:
            mark = " *" if trial is each.kept else ""
            low, high = trial.gain.low, trial.gain.high
            interval = "–" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"
            changes = [f"{change:+.4f}" for change in trial.classes.T.ravel()]
            cells = (f"{trial.gain.mean:+.4f}", interval, str(trial.better), str(trial.worse))
            rows.append((f"{number}: {trial.name} = {trial.value}{mark}", *changes, *cells))
    return Table(
        f"Steps of post-processing, tried on {cases} held-out cases",
        (Column("Round: step"), *columns, *map(Column, ("Mean", "95 %", "Better", "Worse"))),
        tuple(rows),
        (
            "Mean: change of the mean of Dice and surface Dice over the classes. The step that "
            "raises it most is kept (*), if the paired interval excludes 0 and at least "
            f"{LEAST_CASES} cases change.",
        ),
    )


def _added(first: Choice, present: Choice, choice: Choice) -> str | None:
    """Name the one step that a choice adds to the present one; None if it is no such choice."""
    changed = [n for n, (old, new) in enumerate(zip(present, choice, strict=True)) if old != new]
    if len(changed) != 1 or present[changed[0]] != first[changed[0]]:
        return None
    return list(STEPS)[changed[0]]


def _try(scores: np.ndarray, present: int, number: int, choices: Sequence[Choice]) -> Trial:
    name = _added(choices[0], choices[present], choices[number])
    assert name is not None
    change = _differences(scores, present, number)
    return Trial(
        name,
        choices[number][list(STEPS).index(name)],
        number,
        mean_interval(change.tolist()),
        (scores[:, number] - scores[:, present]).mean(0),
        int((change > LEAST_CHANGE).sum()),
        int((change < -LEAST_CHANGE).sum()),
    )


def _differences(scores: np.ndarray, present: int, number: int) -> np.ndarray:
    """Return each case's change (case,) of the mean over classes and both scores."""
    changes: np.ndarray = (scores[:, number] - scores[:, present]).mean((1, 2))
    return changes
