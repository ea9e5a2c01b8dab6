"""The table of the learning benchmark."""

import statistics
from collections.abc import Sequence

from benchmarks.learn_scores import Comparison, compare
from benchmarks.learn_trainings import Training
from kitsjax.labels import KITS
from kitsjax.report.names import SCORE_TITLES
from kitsjax.report.statistics import MeanInterval
from kitsjax.report.table_format import Column, Table, number

OURS = "kitsjax"

Comparisons = dict[str, dict[str, dict[str, dict[str, dict[str, Comparison]]]]]
"""{what is equal: {test set: {baseline: {score: {evaluation class: comparison}}}}}."""


def compare_all(trainings: dict[str, list[Training]]) -> Comparisons:
    """Compare kitsjax with every baseline, on every test set, for the same steps and minutes."""
    found: Comparisons = {}
    for equal, runs in trainings.items():
        baselines = [name for name in dict.fromkeys(run.contender for run in runs) if name != OURS]
        scores = {
            name: [run.scores for run in runs if run.contender == name]
            for name in (OURS, *baselines)
        }
        found[equal] = {
            test: {
                name: compare(*([each[test] for each in scores[who]] for who in (OURS, name)))
                for name in baselines
            }
            for test in runs[0].scores
        }
    return found


def to_table(
    comparisons: Comparisons, trainings: dict[str, list[Training]], notes: Sequence[str]
) -> Table:
    """Make a table with a line for each evaluation class, test set, baseline and equality.

    Args:
        comparisons: as `compare_all` returns them.
        trainings: as `run_trainings` returns them; their times become notes.
        notes: more notes.
    """
    columns = [Column("learned for"), Column("tested on"), Column("class"), Column("baseline")]
    for title in SCORE_TITLES.values():
        columns += [Column(name, title) for name in ("kitsjax", "baseline", "difference (95 %)")]
    cases = {
        test: len(scores["dice"]["tumor"])
        for test, scores in next(iter(trainings.values()))[0].scores.items()
    }
    rows = [
        (equal, f"{test}, {cases[test]} cases", title, baseline, *_cells(scores, name))
        for equal, tests in comparisons.items()
        for test, baselines in tests.items()
        for baseline, scores in baselines.items()
        for name, title in KITS.titles.items()
    ]
    times = [f"{equal}: {_times(runs)}." for equal, runs in trainings.items()]
    return Table("Learning: kitsjax beside nnU-Net", tuple(columns), tuple(rows), (*times, *notes))


def _cells(scores: dict[str, dict[str, Comparison]], name: str) -> list[str]:
    cells = []
    for column in SCORE_TITLES:
        found = scores[column][name]
        cells += [number(found.our_mean.mean), number(found.their_mean.mean)]
        cells.append(_interval(found.difference))
    return cells


def _interval(value: MeanInterval) -> str:
    sign = "+" if value.mean >= 0 else ""
    return f"{sign}{number(value.mean)} ({number(value.low)} to {number(value.high)})"


def _times(trainings: Sequence[Training]) -> str:
    """List the batches and minutes of each contender."""
    texts = []
    for name in dict.fromkeys(training.contender for training in trainings):
        runs = [training for training in trainings if training.contender == name]
        minutes = [run.trained.seconds / 60 for run in runs]
        texts.append(
            f"{name} {statistics.median(minutes):.1f} minutes ({min(minutes):.1f} to "
            f"{max(minutes):.1f}) of {runs[0].batches} batches in an epoch"
        )
    return ", ".join(texts)
