"""Names of scores and ground truths, as tables, captions and the page write them."""

from kitsjax.labels import INDIVIDUAL, MAJORITY

SCORE_NAMES = {"dice": "Dice", "surface_dice": "surface Dice"}
"""Each score's name within a sentence, by its field of `Score`."""

SCORE_TITLES = {"dice": "Dice", "surface_dice": "Surface Dice"}
"""Each score's name at the head of a column, as in the paper's Table 1."""

TRUTH_NAMES = {MAJORITY: "the majority label", INDIVIDUAL: "the individual annotations"}
"""Each ground truth's name within a sentence."""


def count(number: int, noun: str) -> str:
    """Write a number with its noun, such as "1 case" or "2 cases"."""
    return f"{number} {noun}" + "s" * (number != 1)
