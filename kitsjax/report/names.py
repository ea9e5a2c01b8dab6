"""Names of scores, ground truths and labels, as tables, captions and the page write them."""

from collections.abc import Sequence

from kitsjax.labels import INDIVIDUAL, MAJORITY, EvaluationClass, LabelScheme

SCORE_NAMES = {"dice": "Dice", "surface_dice": "surface Dice"}
"""Each score's name within a sentence, by its field of `Score`."""

SCORE_TITLES = {"dice": "Dice", "surface_dice": "Surface Dice"}
"""Each score's name at the head of a column, as in the paper's Table 1."""

_TRUTH_NAMES = {MAJORITY: "the majority label", INDIVIDUAL: "the individual annotations"}
"""Each of KiTS21's ground truths within a sentence."""


def count(number: int, noun: str) -> str:
    """Write a number with its noun, such as "1 case" or "2 cases"."""
    return f"{number} {noun}" + "s" * (number != 1)


def name_truth(against: str, scheme: LabelScheme) -> str:
    """Name a ground truth within a sentence; other data sets than KiTS21 have a single one."""
    return _TRUTH_NAMES[against] if scheme.is_kits else "the truth"


def find_focus(scheme: LabelScheme) -> EvaluationClass | None:
    """Find the class that is the first lesion label alone, such as KiTS's tumor.

    Its scores order the cases, and are compared by volume. None: there are no lesions, or their
    first label is no class of its own.
    """
    alone = (each for each in scheme.evaluation if each.labels == scheme.lesions[:1])
    return next(alone, None)


def join_names(names: Sequence[str], word: str) -> str:
    """List names in a sentence: "a", "a and b", "a, b and c"."""
    *rest, last = names
    return f"{', '.join(rest)} {word} {last}" if rest else last


def pluralize(name: str) -> str:
    """Return the plural of a lesion's name; one that is no word becomes "lesion_2 lesions"."""
    if not name.isalpha():
        return f"{name} lesions"
    if name.endswith("sis"):
        return f"{name[:-2]}es"
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def name_lesions(scheme: LabelScheme, word: str) -> str:
    """List the kinds of lesions of a scheme in their plural, such as "tumors and cysts"."""
    return join_names([pluralize(scheme.names[label]) for label in scheme.lesions], word)
