"""Tables of lesions: their outcomes, and how many were found by volume."""

import math
from collections.abc import Sequence

from kitsjax.evaluate.outcomes import MISCLASSIFIED, count_outcomes, list_outcomes
from kitsjax.evaluate.results import Evaluation
from kitsjax.report.names import name_lesions
from kitsjax.report.sensitivity import VOLUME_EDGES_CM3, sensitivity
from kitsjax.report.table_format import Column, Table


def failure_table(evaluation: Evaluation) -> Table:
    """Count the true lesions (tumors and cysts, in KiTS) by outcome, and the false positives.

    These are the failure modes of the paper's Figure 6 in numbers.
    """
    outcomes = list_outcomes(evaluation.scheme)
    *true_outcomes, false_positive = outcomes
    rows = []
    for label, counts in count_outcomes(evaluation.lesions, evaluation.scheme).items():
        true = sum(counts[outcome] for outcome in true_outcomes)
        shares = (_share(counts[outcome], true) for outcome in true_outcomes)
        rows.append((label.title(), str(true), *shares, str(counts[false_positive])))
    return Table(
        f"{_title_lesions(evaluation)} by outcome, with percent of true lesions",
        tuple(map(Column, ("Label", "True", *(outcome.capitalize() for outcome in outcomes)))),
        tuple(rows),
        tuple(f"{outcome.capitalize()}: {meaning}." for outcome, meaning in outcomes.items()),
    )


def sensitivity_table(
    evaluation: Evaluation, edges_cm3: Sequence[float] = VOLUME_EDGES_CM3
) -> Table:
    """Count the true lesions that were found, under any lesion label, by their volume.

    Args:
        evaluation: lesions of any number of cases.
        edges_cm3: rising ends of the ranges of volumes.
    """
    outcomes = list_outcomes(evaluation.scheme)
    by_label = sensitivity(evaluation.lesions, evaluation.scheme, edges_cm3)
    names = ("True", "Found", "95 % interval", "Misclassified")
    shown = len(names) if MISCLASSIFIED in outcomes else len(names) - 1
    rows = []
    for ranges in zip(*by_label.values(), strict=True):
        low, high = ranges[0].low_cm3, ranges[0].high_cm3
        cells = [f"{low:g} or more" if math.isinf(high) else f"{low:g}–{high:g}"]
        for row in ranges:
            ends = f"{_percent(row.low)}–{_percent(row.high)} %" if row.lesions else "–"
            found = _share(row.found, row.lesions)
            cells += [str(row.lesions), found, ends, str(row.misclassified)][:shown]
        rows.append(tuple(cells))
    heads = (Column(name, label.title()) for label in by_label for name in names[:shown])
    owner = "mass" if evaluation.scheme.is_kits else "lesion"
    mistaken = f"Misclassified: found, but under the other {owner}'s label. "
    if len(by_label) > 2:
        mistaken = "Misclassified: found, but under another lesion's label. "
    return Table(
        f"{_title_lesions(evaluation)} found, by volume",
        (Column("Volume (cm³)"), *heads),
        tuple(rows),
        (
            "Found: every true lesion that was not missed. "
            f"{mistaken if MISCLASSIFIED in outcomes else ''}A range includes its lower end. The "
            "intervals are Wilson's and take lesions as independent.",
        ),
    )


def _title_lesions(evaluation: Evaluation) -> str:
    """Name the kinds of lesions at the beginning of a title."""
    text = name_lesions(evaluation.scheme, "and")
    return text[:1].upper() + text[1:]


def _share(count: int, total: int) -> str:
    return f"{count} ({_percent(count, total)} %)" if total else str(count)


def _percent(part: float, whole: float = 1) -> int:
    # A half goes up: readers who check 1 of 8 expect 13, where Python's own rounding gives 12.
    return math.floor(100 * part / whole + 0.5)
