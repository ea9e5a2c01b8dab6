"""Outcomes of lesions: their names, their meanings, their numbers, and a case's in words."""

from collections.abc import Iterable, Sequence

from kitsjax.evaluate.results import Lesion
from kitsjax.labels import LabelScheme

MISCLASSIFIED = "misclassified"
"""The outcome that takes two lesion labels at least."""

OUTCOMES = {
    "detected": "found, under its own label, and neither far too small nor far too large",
    "under-segmented": "less than half of it is predicted as a mass",
    "over-segmented": "more than half of what was found for it lies outside every true mass",
    MISCLASSIFIED: "most of what was found of it has the other mass's label",
    "missed": "no predicted lesion matches it, or less than a tenth of it is predicted as a mass",
    "false positive": "a predicted lesion that matches no true one",
}
"""Each outcome and its meaning for KiTS's tumors and cysts. Only the last one is an outcome of
predicted lesions."""

_MAX_NAMED = 3
"""A caption names at most this many lesions, so that it stays short."""


def list_outcomes(scheme: LabelScheme) -> dict[str, str]:
    """Return the outcomes that lesions of a scheme can have, with their meanings in its words."""
    if scheme.is_kits:
        return OUTCOMES
    other = "the other" if len(scheme.lesions) == 2 else "another"
    return {
        outcome: meaning.replace("the other mass", f"{other} lesion").replace("mass", "lesion")
        for outcome, meaning in OUTCOMES.items()
        if outcome != MISCLASSIFIED or len(scheme.lesions) > 1
    }


def count_outcomes(lesions: Iterable[Lesion], scheme: LabelScheme) -> dict[str, dict[str, int]]:
    """Count the lesions of each label and outcome, as {label: {outcome: number}}.

    Every lesion label of the scheme and every outcome of `list_outcomes` is there, in these
    orders, also with number 0.
    """
    outcomes = list_outcomes(scheme)
    counts = {scheme.names[label]: dict.fromkeys(outcomes, 0) for label in scheme.lesions}
    for lesion in lesions:
        counts[lesion.label][lesion.outcome] += 1
    return counts


def describe_case(lesions: Sequence[Lesion], scheme: LabelScheme) -> str:
    """Describe for a caption what went wrong in one case; "no failure" if nothing did.

    The largest failures of true lesions are named, the others and the false positives counted:
    "tumor 2.1 cm³ missed; cyst 0.4 cm³ misclassified as tumor; 1 false-positive tumor".
    """
    failed = [lesion for lesion in lesions if lesion.outcome not in ("detected", "false positive")]
    failed.sort(key=lambda lesion: -lesion.volume_cm3)
    parts = [_describe_lesion(lesion, scheme) for lesion in failed[:_MAX_NAMED]]
    if len(failed) > _MAX_NAMED:
        parts.append(_in_words(len(failed) - _MAX_NAMED, "smaller failure"))
    for label, counts in count_outcomes(lesions, scheme).items():
        if counts["false positive"]:
            parts.append(_in_words(counts["false positive"], f"false-positive {label}"))
    return "; ".join(parts) or "no failure"


def _in_words(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _describe_lesion(lesion: Lesion, scheme: LabelScheme) -> str:
    digits = 1 if lesion.volume_cm3 >= 0.1 else 2
    text = f"{lesion.label} {lesion.volume_cm3:.{digits}f} cm³ {lesion.outcome}"
    others = [scheme.names[label] for label in scheme.lesions]
    others.remove(lesion.label)
    # Of more labels than two it is not known which one it was taken for.
    named = lesion.outcome == MISCLASSIFIED and len(others) == 1
    return f"{text} as {others[0]}" if named else text
