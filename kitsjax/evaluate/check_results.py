"""Values that an evaluation can hold: of each field of a row, and of the tables together.

Functions on one row return {field: whether its value is possible} in a label scheme. Functions on
whole tables raise a ValueError that names the rows.
"""

import math
from collections import Counter
from collections.abc import Iterable

from kitsjax.evaluate.outcomes import list_outcomes
from kitsjax.evaluate.results import Lesion, Score
from kitsjax.labels import INDIVIDUAL, MAJORITY, LabelScheme

SLACK = 1e-9
"""A share may exceed 1 by this much, since sums are rounded."""


def check_mean(score: Score, scheme: LabelScheme) -> dict[str, bool]:
    """Tell for each field of a row of scores.csv whether its value is possible."""
    return {**_check_score(score, scheme), "against": score.against in (MAJORITY, INDIVIDUAL)}


def check_sample(score: Score, scheme: LabelScheme) -> dict[str, bool]:
    """Tell for each field of a row of samples.csv whether its value is possible."""
    is_sample = score.against not in ("", MAJORITY, INDIVIDUAL)
    return {**_check_score(score, scheme), "against": is_sample}


def _check_score(score: Score, scheme: LabelScheme) -> dict[str, bool]:
    return {
        "case_id": bool(score.case_id.strip()),
        "evaluation_class": score.evaluation_class in scheme.evaluation_keys,
        "samples": score.samples > 0,
        "dice": _is_share(score.dice),
        "surface_dice": _is_share(score.surface_dice),
        "hausdorff95_mm": math.isnan(score.hausdorff95_mm) or _is_size(score.hausdorff95_mm),
        "prediction_cm3": _is_size(score.prediction_cm3),
        "truth_cm3": _is_size(score.truth_cm3),
        "lesions": score.lesions >= 0,
    }


def check_lesion(lesion: Lesion, scheme: LabelScheme) -> dict[str, bool]:
    """Tell for each field of a row of lesions.csv whether its value is possible."""
    shares = {name: getattr(lesion, name) for name in ("covered", "excess", "misclassified")}
    is_false_positive = lesion.outcome == "false positive"
    is_predicted = lesion.source == "prediction"
    return {
        "case_id": bool(lesion.case_id.strip()),
        "source": lesion.source in ("truth", "prediction"),
        "label": lesion.label in [scheme.names[label] for label in scheme.lesions],
        "number": lesion.number > 0,
        "volume_cm3": _is_size(lesion.volume_cm3),
        "outcome": lesion.outcome in list_outcomes(scheme) and is_false_positive == is_predicted,
        **{name: math.isnan(share) or _is_share(share) for name, share in shares.items()},
        "slice": lesion.slice >= 0,
    }


def _is_share(value: float) -> bool:
    return 0 <= value <= 1 + SLACK


def _is_size(value: float) -> bool:
    return 0 <= value < math.inf


def check_complete(scores: Iterable[Score], scheme: LabelScheme) -> None:
    """Refuse a case that lacks a class, or the majority score where other cases have it.

    Only the individual score may be missing, namely of a case without individual annotations.
    """
    classes: dict[tuple[str, str], set[str]] = {}
    for score in scores:
        classes.setdefault((score.case_id, score.against), set()).add(score.evaluation_class)
    for (case_id, against), present in classes.items():
        for name in scheme.evaluation_keys:
            if name not in present:
                raise ValueError(f"no row of {case_id}, {name}, {against}")
    cases = {
        kind: {case for case, against in classes if against == kind}
        for kind in (MAJORITY, INDIVIDUAL)
    }
    lacking = cases[INDIVIDUAL] - cases[MAJORITY]
    if cases[MAJORITY] and lacking:
        raise ValueError(f"no row of {min(lacking)}, {MAJORITY}, which other cases have")


def check_samples(scores: Iterable[Score], samples: Iterable[Score]) -> None:
    """Refuse samples that are not those whose mean the individual scores are."""
    expected = {
        (score.case_id, score.evaluation_class): score.samples
        for score in scores
        if score.against == INDIVIDUAL
    }
    found = Counter((sample.case_id, sample.evaluation_class) for sample in samples)
    for case_id, name in sorted(expected.keys() | found.keys()):
        present, wanted = found[case_id, name], expected.get((case_id, name), 0)
        if present != wanted:
            raise ValueError(
                f"{present} rows of {case_id}, {name}, while scores.csv has the mean of {wanted}"
            )


def check_scored(lesions: Iterable[Lesion], scores: Iterable[Score]) -> None:
    """Refuse lesions of cases that were not scored."""
    strangers = {lesion.case_id for lesion in lesions} - {score.case_id for score in scores}
    if strangers:
        raise ValueError(f"rows of {min(strangers)[:50]!r}, which scores.csv lacks")
