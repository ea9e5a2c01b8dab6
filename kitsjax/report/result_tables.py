"""Tables of the results section: the paper's Table 1, and the scores of every case."""

import math
from collections.abc import Mapping

from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import KITS, MAJORITY, LabelScheme
from kitsjax.report.absent_table import describe_absent
from kitsjax.report.mean_scores import PUBLISHED, MeanScore, score_means
from kitsjax.report.names import (
    SCORE_NAMES,
    SCORE_TITLES,
    find_focus,
    name_truth,
)
from kitsjax.report.rank_cases import rank_cases
from kitsjax.report.statistics import RESAMPLES, agreement
from kitsjax.report.table_format import INDENT, Column, Table, number

Means = Mapping[str, Mapping[str, float]]
"""Mean scores by class: {"kidney_and_mass": {"dice": x, "surface_dice": x}, "mass": ..., ...}."""


def score_table(evaluation: Evaluation, compare: str | None = None) -> Table:
    """Make the paper's Table 1: mean Dice and surface Dice, each with its 95 % bootstrap interval.

    Ground truths that were not scored against have no columns; a single case has no interval. The
    notes say how many cases there are and, with KiTS's labels, how far the scores against the
    individual annotations and the majority label agree, or why that is unknown; then come a
    note on each class that some cases lack, and the evaluation's own notes.

    Args:
        evaluation: scores of the cases.
        compare: a key of `PUBLISHED`, to have those means below ours.
    """
    means = {mean[:3]: mean for mean in score_means(evaluation, compare)}
    columns = [(score, against) for score in SCORE_TITLES for against in evaluation.against]
    rows = []
    scheme = evaluation.scheme
    for name, title in scheme.titles.items() if columns else ():
        own = [means[name, *column] for column in columns]
        rows.append((title, *(number(mean.mean) for mean in own)))
        if not all(math.isnan(mean.low) for mean in own):
            rows.append((f"{INDENT}95 % interval", *map(_interval, own)))
        if compare:
            rows.append((INDENT + compare, *(number(mean.published) for mean in own)))
    notes = [_count_cases(evaluation)]
    heads = [Column(SCORE_TITLES[score]) for score, _ in columns]
    if scheme.is_kits:
        notes.append(_describe_agreement(evaluation))
        heads = [Column(against.title(), SCORE_TITLES[score]) for score, against in columns]
    notes += [*describe_absent(evaluation), *evaluation.notes]
    if compare:
        notes.append(f"{compare.capitalize()}: {PUBLISHED[compare].source}.")
    return Table(
        "Dice and surface Dice, means over cases",
        (Column("Class"), *heads),
        tuple(rows),
        tuple(notes),
    )


def tidy_scores(evaluation: Evaluation, compare: str | None = None) -> Table:
    """Make the CSV form of `score_table`: a row for each mean, with every digit, nan left empty."""
    fields = (*MeanScore._fields[:-1], compare) if compare else MeanScore._fields[:-1]
    return Table(
        "Means over cases",
        tuple(map(Column, fields)),
        tuple(
            # Only nan differs from itself.
            tuple("" if value != value else str(value) for value in mean[: len(fields)])
            for mean in score_means(evaluation, compare)
        ),
    )


def means_table(methods: Mapping[str, Means], scheme: LabelScheme = KITS) -> Table:
    """Make a table with a row for each method, and the classes of each score side by side."""
    columns = [(score, name) for score in SCORE_TITLES for name in scheme.evaluation_keys]
    rows = (
        (title, *(number(means[name][score]) for score, name in columns))
        for title, means in methods.items()
    )
    heads = (Column(scheme.titles[name], SCORE_TITLES[score]) for score, name in columns)
    return Table("Mean scores", (Column("Method"), *heads), tuple(rows))


def case_table(evaluation: Evaluation) -> Table:
    """List the cases, lowest Dice of the tumor first, against the majority label if it was scored.

    HD95 is – where either mask is empty. Volumes against the individual annotations are means over
    the annotation samples. With other labels than KiTS's, the class in focus takes the tumor's
    place; see `rank_cases` for the order if there is none.
    """
    against = evaluation.against[0] if evaluation.against else MAJORITY
    columns = _case_columns(evaluation.scheme)
    values = [evaluation.table(against, field)[name] for _, field, name in columns]
    digits = [3 if field in SCORE_NAMES else 2 for _, field, _ in columns]
    by, dice = rank_cases(evaluation)
    truth = name_truth(against, evaluation.scheme)
    return Table(
        f"Scores by case against {truth}, lowest {by} first",
        (Column("Case"), *(column for column, _, _ in columns)),
        tuple(
            (case, *(number(v[case], d) for v, d in zip(values, digits, strict=True)))
            for case in sorted(dice, key=lambda case: (dice[case], case))
        ),
    )


def _case_columns(scheme: LabelScheme) -> list[tuple[Column, str, str]]:
    """List the columns of `case_table`: (column, field of `Score`, evaluation class)."""
    titles, focus = scheme.titles, find_focus(scheme)
    first, *others = scheme.evaluation_keys
    # Distances and volumes of many organs would make the table too wide; scores.csv has them all.
    far = dict.fromkeys((first, focus.key)) if focus else ([] if others else [first])
    measured = focus.key if focus else "" if others else first
    volume = f"{titles.get(measured)} (cm³)"
    return [
        *(
            (Column(titles[name], title), score, name)
            for score, title in SCORE_TITLES.items()
            for name in titles
        ),
        *((Column(titles[name], "HD95 (mm)"), "hausdorff95_mm", name) for name in far),
        *([(Column("True", volume), "truth_cm3", measured)] if measured else []),
        *([(Column("Predicted", volume), "prediction_cm3", measured)] if measured else []),
    ]


def _count_cases(evaluation: Evaluation) -> str:
    """State the number of cases, the kind of interval, and what was not scored."""
    counts = {truth: len(evaluation.scored(truth)) for truth in evaluation.against}
    listed = ", ".join(
        f"{count} against {name_truth(truth, evaluation.scheme)}" for truth, count in counts.items()
    )
    text = f"Cases scored: {listed or 'none'}."
    if evaluation.missing or evaluation.failures:
        text += (
            f" Not scored: {len(evaluation.missing)} without a prediction, "
            f"{len(evaluation.failures)} failed."
        )
    takes = "" if min(counts.values(), default=0) > 1 else "; an interval takes two cases"
    return f"{text} Intervals are by bootstrap over cases (BCa, {RESAMPLES:,} resamples){takes}."


def _describe_agreement(evaluation: Evaluation) -> str:
    """State how far majority and individual scores agree, or why that is unknown."""
    found = agreement(evaluation)
    if found is None:
        return (
            "How far majority and individual scores agree is unknown, since fewer than three cases "
            "were scored against both."
        )
    falls = " and ".join(
        f"mean {name} {'falls by at most' if fall.fall >= 0 else 'rises by at least'} "
        f"{number(abs(fall.fall))} ({evaluation.scheme.titles[fall.evaluation_class]})"
        for name, fall in zip(SCORE_NAMES.values(), (found.dice, found.surface_dice), strict=True)
    )
    correlation = (
        "has no value, as one of them is the same in all cases"
        if math.isnan(found.spearman_r)
        else f"is {number(found.spearman_r)}"
    )
    return (
        f"From majority to individual, over {found.cases} cases, {falls}. Spearman r between the "
        f"two scores of a case {correlation}."
    )


def _interval(mean: MeanScore) -> str:
    return "–" if math.isnan(mean.low) else f"{number(mean.low)}–{number(mean.high)}"
