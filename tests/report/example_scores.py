"""Cases of known quality and a few lesions, for the tests of tables and of their formats."""

import math

from kitsjax.evaluate.results import Evaluation, Lesion, Score
from kitsjax.labels import EVALUATION_CLASSES, INDIVIDUAL, MAJORITY

NAN = math.nan


def evaluation(*cases: float, against=(MAJORITY, INDIVIDUAL)) -> Evaluation:
    """Cases of one quality each; surface Dice 0.1 lower, individual annotations 0.01 lower."""
    return Evaluation(
        scores=tuple(
            Score(
                f"case_{at:05d}", name, truth, 1,
                quality - 0.01 * (truth == INDIVIDUAL),
                quality - 0.1 - 0.01 * (truth == INDIVIDUAL),
                NAN if name == "tumor" else 2.5, 10.0, 20.25, 1,
            )
            for at, quality in enumerate(cases)
            for name in EVALUATION_CLASSES
            for truth in against
        )
    )  # fmt: skip


def lesion(label: str, outcome: str, volume_cm3: float = 1.0) -> Lesion:
    source = "prediction" if outcome == "false positive" else "truth"
    return Lesion("case_00000", source, label, 1, volume_cm3, outcome, NAN, NAN, NAN, 0)


SIX = evaluation(0.9, 0.8, 0.7, 0.6, 0.85, 0.95)
LESIONS = [
    *[lesion("tumor", "detected", 100)] * 2,
    lesion("tumor", "missed", 0.5),
    lesion("tumor", "false positive", 0.5),
    lesion("cyst", "misclassified", 2),
]
