"""The order of the cases, from the worst to the best."""

import numpy as np

from kitsjax.evaluate.results import Evaluation
from kitsjax.report.names import find_focus


def rank_cases(evaluation: Evaluation) -> tuple[str, dict[str, float]]:
    """Return the name of the Dice that orders the cases, and this Dice by case id.

    It is that of the class in focus (KiTS's tumor), or of the only class; otherwise the mean over
    all classes. Scores are those against the majority label if there are any, otherwise the
    individual ones.
    """
    scheme, focus = evaluation.scheme, find_focus(evaluation.scheme)
    table = evaluation.table(evaluation.against[0]) if evaluation.against else {}
    if focus:
        return f"{scheme.names[focus.labels[0]]} Dice", table.get(focus.key, {})
    classes = list(table.values())
    cases = classes[0] if classes else {}
    means = {case: float(np.mean([by_case[case] for by_case in classes])) for case in cases}
    return ("Dice" if len(scheme.evaluation) == 1 else "mean Dice"), means
