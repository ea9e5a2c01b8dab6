"""The table and the notes of classes that some cases lack, and of what was found there."""

from kitsjax.evaluate.absent_classes import AbsentClass, find_absent_classes
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import MAJORITY
from kitsjax.report.names import count
from kitsjax.report.table_format import Column, Table, number

_EXPLANATION = (
    "Dice and surface Dice of a case without a class are 1 if nothing was found of it, and else 0; "
    "the means of Table 1 count these cases, and the last columns leave them out."
)


def absent_table(evaluation: Evaluation) -> Table | None:
    """Make the table of the classes that some cases lack; None if no case lacks any.

    The cases are those against the majority label if it was scored, else against the individual
    annotations.
    """
    found = _find(evaluation)
    if not found:
        return None
    columns = (
        Column("Class"),
        Column("Cases", "Without it"), Column("Found in", "Without it"),
        Column("Mean (cm³)", "Without it"), Column("Largest (cm³)", "Without it"),
        Column("Cases", "With it"), Column("Dice", "With it"), Column("Surface Dice", "With it"),
    )  # fmt: skip
    rows = tuple(
        (
            evaluation.scheme.titles[each.evaluation_class],
            str(each.cases), str(each.found_in),
            number(each.mean_cm3, 2), number(each.largest_cm3, 2),
            str(each.present), number(each.dice), number(each.surface_dice),
        )
        for each in found
    )  # fmt: skip
    return Table("Volume found where a class is absent", columns, rows, (_EXPLANATION,))


def describe_absent(evaluation: Evaluation) -> list[str]:
    """Say below Table 1, a sentence for each class, what was found where it is absent."""
    return [_describe(evaluation.scheme.titles[a.evaluation_class], a) for a in _find(evaluation)]


def _find(evaluation: Evaluation) -> list[AbsentClass]:
    against = evaluation.against[0] if evaluation.against else MAJORITY
    return find_absent_classes(evaluation, against)


def _describe(title: str, each: AbsentClass) -> str:
    found = "nothing was found of it there"
    if each.found_in:
        found = (
            f"it was found in {each.found_in} of them, {number(each.mean_cm3, 2)} cm³ on average "
            f"over all of them, at most {number(each.largest_cm3, 2)}"
        )
    others = ""
    if each.present:
        others = (
            f" In the other {count(each.present, 'case')} Dice is {number(each.dice)} and surface "
            f"Dice {number(each.surface_dice)}."
        )
    return (
        f"{title} is absent in {count(each.cases, 'case')} (in the means, Dice is 1 if nothing is "
        f"found, else 0): {found}.{others}"
    )
