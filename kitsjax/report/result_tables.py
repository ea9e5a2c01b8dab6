"""Tables of the results section: the paper's Table 1, lesions, and cases."""

import math
from collections.abc import Mapping, Sequence

from kitsjax.evaluate.lesions import OUTCOMES, count_outcomes
from kitsjax.evaluate.results import Evaluation, Lesion
from kitsjax.labels import EVALUATION_NAMES, MAJORITY
from kitsjax.report.mean_scores import PUBLISHED, MeanScore, score_means
from kitsjax.report.names import SCORE_NAMES, SCORE_TITLES, TRUTH_NAMES
from kitsjax.report.statistics import RESAMPLES, VOLUME_EDGES_CM3, agreement, sensitivity
from kitsjax.report.table_format import INDENT, Column, Table, number

Means = Mapping[str, Mapping[str, float]]
"""Mean scores by class: {"kidney_and_mass": {"dice": x, "surface_dice": x}, "mass": ..., ...}."""


def score_table(evaluation: Evaluation, compare: str | None = None) -> Table:
    """Make the paper's Table 1: mean Dice and surface Dice, each with its 95 % bootstrap interval.

    Ground truths that were not scored against have no columns; a single case has no interval. The
    notes say how many cases there are, and how far the scores against the individual annotations
    and the majority label agree, or why that is unknown; then come the evaluation's own notes.

    Args:
        evaluation: scores of the cases.
        compare: a key of `PUBLISHED`, to have those means below ours.
    """
    means = {mean[:3]: mean for mean in score_means(evaluation, compare)}
    columns = [(score, against) for score in SCORE_TITLES for against in evaluation.against]
    rows = []
    for name, title in EVALUATION_NAMES.items() if columns else ():
        own = [means[name, *column] for column in columns]
        rows.append((title, *(number(mean.mean) for mean in own)))
        if not all(math.isnan(mean.low) for mean in own):
            rows.append((f"{INDENT}95 % interval", *map(_interval, own)))
        if compare:
            rows.append((INDENT + compare, *(number(mean.published) for mean in own)))
    notes = [_count_cases(evaluation), _describe_agreement(evaluation), *evaluation.notes]
    if compare:
        notes.append(f"{compare.capitalize()}: {PUBLISHED[compare].source}.")
    return Table(
        "Dice and surface Dice, means over cases",
        (Column("Class"), *(Column(against.title(), SCORE_TITLES[s]) for s, against in columns)),
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


def means_table(methods: Mapping[str, Means]) -> Table:
    """Make a table with a row for each method, and the classes of each score side by side."""
    columns = [(score, name) for score in SCORE_TITLES for name in EVALUATION_NAMES]
    rows = (
        (title, *(number(means[name][score]) for score, name in columns))
        for title, means in methods.items()
    )
    heads = (Column(EVALUATION_NAMES[name], SCORE_TITLES[score]) for score, name in columns)
    return Table("Mean scores", (Column("Method"), *heads), tuple(rows))


def failure_table(lesions: Sequence[Lesion]) -> Table:
    """Count the true tumors and cysts by outcome, and the false positives.

    These are the failure modes of the paper's Figure 6 in numbers.
    """
    *true_outcomes, false_positive = OUTCOMES
    rows = []
    for label, counts in count_outcomes(lesions).items():
        true = sum(counts[outcome] for outcome in true_outcomes)
        shares = (_share(counts[outcome], true) for outcome in true_outcomes)
        rows.append((label.title(), str(true), *shares, str(counts[false_positive])))
    return Table(
        "Tumors and cysts by outcome, with percent of true lesions",
        tuple(map(Column, ("Label", "True", *(outcome.capitalize() for outcome in OUTCOMES)))),
        tuple(rows),
        tuple(f"{outcome.capitalize()}: {meaning}." for outcome, meaning in OUTCOMES.items()),
    )


def sensitivity_table(
    lesions: Sequence[Lesion], edges_cm3: Sequence[float] = VOLUME_EDGES_CM3
) -> Table:
    """Count the true tumors and cysts that were found, under either label, by their volume.

    Args:
        lesions: lesions of any number of cases.
        edges_cm3: rising ends of the ranges of volumes.
    """
    by_label = sensitivity(lesions, edges_cm3)
    rows = []
    for ranges in zip(*by_label.values(), strict=True):
        low, high = ranges[0].low_cm3, ranges[0].high_cm3
        cells = [f"{low:g} or more" if math.isinf(high) else f"{low:g}–{high:g}"]
        for row in ranges:
            ends = f"{_percent(row.low)}–{_percent(row.high)} %" if row.lesions else "–"
            found = _share(row.found, row.lesions)
            cells += [str(row.lesions), found, ends, str(row.misclassified)]
        rows.append(tuple(cells))
    names = ("True", "Found", "95 % interval", "Misclassified")
    heads = (Column(name, label.title()) for label in by_label for name in names)
    return Table(
        "Tumors and cysts found, by volume",
        (Column("Volume (cm³)"), *heads),
        tuple(rows),
        (
            "Found: every true lesion that was not missed. Misclassified: found, but under the "
            "other mass's label. A range includes its lower end. The intervals are Wilson's and "
            "take lesions as independent.",
        ),
    )


def case_table(evaluation: Evaluation) -> Table:
    """List the cases, lowest tumor Dice first, against the majority label if that was scored.

    HD95 is – where either mask is empty. Volumes against the individual annotations are means over
    the annotation samples.
    """
    against = evaluation.against[0] if evaluation.against else MAJORITY
    # (column, field of `Score`, evaluation class)
    columns = [
        *(
            (Column(EVALUATION_NAMES[name], title), score, name)
            for score, title in SCORE_TITLES.items()
            for name in EVALUATION_NAMES
        ),
        *(
            (Column(EVALUATION_NAMES[name], "HD95 (mm)"), "hausdorff95_mm", name)
            for name in ("kidney_and_mass", "tumor")
        ),
        (Column("True", "Tumor (cm³)"), "truth_cm3", "tumor"),
        (Column("Predicted", "Tumor (cm³)"), "prediction_cm3", "tumor"),
    ]
    values = [evaluation.table(against, field)[name] for _, field, name in columns]
    digits = [3 if field in SCORE_NAMES else 2 for _, field, _ in columns]
    dice = evaluation.table(against)["tumor"]
    return Table(
        f"Scores by case against {TRUTH_NAMES[against]}, lowest tumor Dice first",
        (Column("Case"), *(column for column, _, _ in columns)),
        tuple(
            (case, *(number(v[case], d) for v, d in zip(values, digits, strict=True)))
            for case in sorted(dice, key=lambda case: (dice[case], case))
        ),
    )


def _count_cases(evaluation: Evaluation) -> str:
    """State the number of cases, the kind of interval, and what was not scored."""
    counts = {truth: len(evaluation.table(truth)["tumor"]) for truth in evaluation.against}
    listed = ", ".join(f"{count} against {TRUTH_NAMES[truth]}" for truth, count in counts.items())
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
        f"{number(abs(fall.fall))} ({EVALUATION_NAMES[fall.evaluation_class]})"
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


def _share(count: int, total: int) -> str:
    return f"{count} ({_percent(count, total)} %)" if total else str(count)


def _percent(part: float, whole: float = 1) -> int:
    # A half goes up: readers who check 1 of 8 expect 13, where Python's own rounding gives 12.
    return math.floor(100 * part / whole + 0.5)


def _interval(mean: MeanScore) -> str:
    return "–" if math.isnan(mean.low) else f"{number(mean.low)}–{number(mean.high)}"
