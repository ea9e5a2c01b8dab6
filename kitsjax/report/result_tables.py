"""The tables of the results section: Table 1, T2 under it, lesions, cases."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kitsjax.evaluate.lesions import OUTCOMES, count_outcomes
from kitsjax.evaluate.results import Evaluation, Lesion
from kitsjax.labels import EVALUATION_NAMES, INDIVIDUAL, MAJORITY
from kitsjax.report.statistics import (
    RESAMPLES,
    VOLUME_EDGES_CM3,
    agreement,
    mean_interval,
    sensitivity,
)
from kitsjax.report.table_format import INDENT, Column, Table, number

SCORE_NAMES = {"dice": "Dice", "surface_dice": "Surface Dice"}
"""The scores as the paper's Table 1 names them."""

Means = Mapping[str, Mapping[str, float]]
"""{"kidney_and_mass": {"dice": x, "surface_dice": x}, "mass": ..., "tumor": ...}"""

_TRUTHS = {MAJORITY: "the majority label", INDIVIDUAL: "individual annotations"}


class Published(NamedTuple):
    """What others report: {(score, against): means in the order of the classes}, and the source."""

    means: dict[tuple[str, str], tuple[float, float, float]]
    source: str


PUBLISHED = {
    "paper": Published(
        {
            ("dice", MAJORITY): (0.971, 0.861, 0.840),
            ("dice", INDIVIDUAL): (0.963, 0.856, 0.835),
            ("surface_dice", MAJORITY): (0.937, 0.762, 0.743),
            ("surface_dice", INDIVIDUAL): (0.919, 0.749, 0.729),
        },
        "Zang et al., 3D U-Net Based Semantic Segmentation of Kidneys and Renal Masses on "
        "Contrast-Enhanced CT (KiTS21), Table 1: 60 cases; falls of at most 0.008 (Dice) and 0.018 "
        "(surface Dice), Spearman r = 0.996",
    )
}
"""What `compare` can name."""


class Mean(NamedTuple):
    """A mean score over cases with its 95 % bootstrap interval, as `statistics.mean_interval`.

    Attributes:
        evaluation_class: a key of `EVALUATION_CLASSES`.
        score: "dice" or "surface_dice".
        against: MAJORITY or INDIVIDUAL.
        mean, low, high: nan where there is none.
        cases: how many the mean is over.
        published: what others report; nan if nobody was asked for, or they do not report it.
    """

    evaluation_class: str
    score: str
    against: str
    mean: float
    low: float
    high: float
    cases: int
    published: float


def score_means(evaluation: Evaluation, compare: str | None = None) -> list[Mean]:
    """The numbers of Table 1, a row a mean: what `score_table` shows, for pandas or R.

    Args:
        evaluation: what was found; what was not scored has no rows.
        compare: a key of `PUBLISHED`.
    """
    published = PUBLISHED[compare].means if compare else {}
    means = []
    for score, against in itertools.product(SCORE_NAMES, evaluation.against):
        theirs = published.get((score, against), (math.nan,) * len(EVALUATION_NAMES))
        for name, other in zip(EVALUATION_NAMES, theirs, strict=True):
            values = list(evaluation.table(against, score)[name].values())
            interval = mean_interval(values)
            means.append(Mean(name, score, against, *interval, len(values), other))
    return means


def score_table(evaluation: Evaluation, compare: str | None = None) -> Table:
    """The paper's Table 1: mean Dice and surface Dice, each with its 95 % bootstrap interval.

    What was not scored has no columns; one case has no interval. Under the table: how many cases,
    and how far individual annotations and majority label agree (T2), or why that is unknown.

    Args:
        evaluation: what was found.
        compare: a key of `PUBLISHED`, whose means are to stand under ours.
    """
    means = {mean[:3]: mean for mean in score_means(evaluation, compare)}
    columns = [(score, against) for score in SCORE_NAMES for against in evaluation.against]
    rows = []
    for name, title in EVALUATION_NAMES.items() if columns else ():
        own = [means[name, *column] for column in columns]
        rows.append((title, *(number(mean.mean) for mean in own)))
        if not all(math.isnan(mean.low) for mean in own):
            intervals = (_interval(mean) for mean in own)
            rows.append((f"{INDENT}95 % interval", *intervals))
        if compare:
            rows.append((INDENT + compare, *(number(mean.published) for mean in own)))
    notes = [_count_cases(evaluation), _describe_agreement(evaluation)]
    if compare:
        notes.append(f"{compare.capitalize()}: {PUBLISHED[compare].source}.")
    return Table(
        "Dice and surface Dice, means over cases",
        (Column("Class"), *(Column(against.title(), SCORE_NAMES[s]) for s, against in columns)),
        tuple(rows),
        tuple(notes),
    )


def tidy_scores(evaluation: Evaluation, compare: str | None = None) -> Table:
    """The numbers of `score_table` for `to_csv`: every digit, a row a mean, unknown ones empty."""
    fields = (*Mean._fields[:-1], compare) if compare else Mean._fields[:-1]
    return Table(
        "Means over cases",
        tuple(map(Column, fields)),
        tuple(
            tuple("" if value != value else str(value) for value in mean[: len(fields)])
            for mean in score_means(evaluation, compare)
        ),
    )


def means_table(named: Mapping[str, Means]) -> Table:
    """A row for each named set of means, the classes of each score side by side."""
    columns = [(score, name) for score in SCORE_NAMES for name in EVALUATION_NAMES]
    rows = (
        (title, *(number(means[name][score]) for score, name in columns))
        for title, means in named.items()
    )
    heads = (Column(EVALUATION_NAMES[name], SCORE_NAMES[score]) for score, name in columns)
    return Table("Mean scores", (Column("Method"), *heads), tuple(rows))


def failure_table(lesions: Sequence[Lesion]) -> Table:
    """Figure 6 in numbers: how many true tumors and cysts met which outcome, and false ones."""
    *true_outcomes, false = OUTCOMES
    rows = []
    for label, counts in count_outcomes(lesions).items():
        true = sum(counts[outcome] for outcome in true_outcomes)
        shares = (_share(counts[outcome], true) for outcome in true_outcomes)
        rows.append((label.title(), str(true), *shares, str(counts[false])))
    return Table(
        "Tumors and cysts by outcome, with percent of true lesions",
        tuple(map(Column, ("Label", "True", *(o.capitalize() for o in true_outcomes), "False"))),
        tuple(rows),
        tuple(f"{outcome.capitalize()}: {meaning}." for outcome, meaning in OUTCOMES.items()),
    )


def sensitivity_table(
    lesions: Sequence[Lesion], edges_cm3: Sequence[float] = VOLUME_EDGES_CM3
) -> Table:
    """How many true tumors and cysts were found, under whichever label, by their volume."""
    by_label = sensitivity(lesions, edges_cm3)
    rows = []
    for ranges in zip(*by_label.values(), strict=True):
        low, high = ranges[0].low_cm3, ranges[0].high_cm3
        cells = [f"{low:g} or more" if math.isinf(high) else f"{low:g}–{high:g}"]
        for of in ranges:
            ends = f"{_percent(of.low)}–{_percent(of.high)} %" if of.lesions else number(math.nan)
            cells += [str(of.lesions), _share(of.found, of.lesions), ends, str(of.misclassified)]
        rows.append(tuple(cells))
    names = ("True", "Found", "95 % interval", "Misclassified")
    heads = (Column(name, label.title()) for label in by_label for name in names)
    return Table(
        "Tumors and cysts found, by volume",
        (Column("Volume (cm³)"), *heads),
        tuple(rows),
        (
            "Found: of any outcome but missed; misclassified: of these, under the other mass's label. "
            "A range holds its lower end. Intervals are Wilson's, lesions taken as independent.",
        ),
    )


def case_table(evaluation: Evaluation) -> Table:
    """A row a case, lowest tumor Dice first; against the majority label, if that was scored.

    Hausdorff 95 is – where either mask is empty. Volumes against individual annotations are means
    over the samples.
    """
    against = evaluation.against[0] if evaluation.against else MAJORITY
    columns = [
        *(
            (Column(EVALUATION_NAMES[n], SCORE_NAMES[s]), s, n)
            for s in SCORE_NAMES
            for n in EVALUATION_NAMES
        ),
        (
            Column(EVALUATION_NAMES["kidney_and_mass"], "HD95 (mm)"),
            "hausdorff95_mm",
            "kidney_and_mass",
        ),
        (Column(EVALUATION_NAMES["tumor"], "HD95 (mm)"), "hausdorff95_mm", "tumor"),
        (Column("True", "Tumor (cm³)"), "truth_cm3", "tumor"),
        (Column("Predicted", "Tumor (cm³)"), "prediction_cm3", "tumor"),
    ]
    values = [evaluation.table(against, field)[name] for _, field, name in columns]
    digits = [3 if field in SCORE_NAMES else 2 for _, field, _ in columns]
    dice = evaluation.table(against)["tumor"]
    return Table(
        f"Scores by case against {_TRUTHS[against]}, lowest tumor Dice first",
        (Column("Case"), *(column for column, _, _ in columns)),
        tuple(
            (case, *(number(v[case], d) for v, d in zip(values, digits, strict=True)))
            for case in sorted(dice, key=lambda case: (dice[case], case))
        ),
    )


def _count_cases(evaluation: Evaluation) -> str:
    """How many cases the means are over, how sure they are, and what was not scored."""
    counts = {a: len(evaluation.table(a)["tumor"]) for a in evaluation.against}
    listed = (f"{count} against {_TRUTHS[against]}" for against, count in counts.items())
    text = f"Cases scored: {', '.join(listed) or 'none'}."
    if evaluation.missing or evaluation.failures:
        text += (
            f" Not scored: {len(evaluation.missing)} without a prediction, "
            f"{len(evaluation.failures)} failed."
        )
    takes = "" if min(counts.values(), default=0) > 1 else "; an interval takes two cases"
    return f"{text} Intervals are by bootstrap over cases (BCa, {RESAMPLES:,} resamples){takes}."


def _describe_agreement(evaluation: Evaluation) -> str:
    """T2 in a sentence, or why there is none."""
    found = agreement(evaluation)
    if found is None:
        return (
            "How far majority and individual scores agree is unknown, since fewer than three cases "
            "were scored against both."
        )
    falls = " and ".join(
        f"mean {name} {'falls by at most' if fall.fall >= 0 else 'rises by at least'} "
        f"{number(abs(fall.fall))} ({EVALUATION_NAMES[fall.evaluation_class]})"
        for name, fall in (("Dice", found.dice), ("surface Dice", found.surface_dice))
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
    # A half goes up: readers who check 1 of 8 expect 13, where Python's own rounding has 12.
    return math.floor(100 * part / whole + 0.5)


def _interval(mean: Mean) -> str:
    return "–" if math.isnan(mean.low) else f"{number(mean.low)}–{number(mean.high)}"
