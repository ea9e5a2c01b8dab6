"""Made-up scores and lesions for the tests of tables, charts and statistics."""

import math

import numpy as np

from kitsjax.evaluate.outcomes import OUTCOMES
from kitsjax.evaluate.results import Evaluation, Lesion, Score
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY

NAN = math.nan
BOTH = (MAJORITY, INDIVIDUAL)


def evaluation(*cases: float, against=BOTH) -> Evaluation:
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
            for name in KITS.evaluation_keys
            for truth in against
        )
    )  # fmt: skip


def random_evaluation(cases: int, against=BOTH) -> Evaluation:
    """Scores of KiTS-like cases: larger tumors score higher, and every tenth case has two."""
    random = np.random.default_rng(cases)
    scores, lesions = [], []
    for number in range(cases):
        case_id = f"case_{number:05d}"
        volume = float(np.exp(random.normal(3.2, 1.2)))
        dice = float(np.clip(0.9 - 0.6 * random.random() / volume**0.3, 0, 1))
        for name in KITS.evaluation_keys:
            for truth in against:
                value = dice - 0.01 * (truth == INDIVIDUAL)
                row = (value, 0.9 * value, 5.0, volume, volume, 1 + (number % 10 == 9))
                scores.append(Score(case_id, name, truth, 1, *row))
        lesions.append(lesion("tumor", list(OUTCOMES)[number % len(OUTCOMES)], volume))
    return Evaluation(tuple(scores), (), tuple(lesions))


def lesion(label: str, outcome: str, volume_cm3: float = 1.0) -> Lesion:
    source = "prediction" if outcome == "false positive" else "truth"
    return Lesion("case_00000", source, label, 1, volume_cm3, outcome, NAN, NAN, NAN, 0)


def found(lesions) -> Evaluation:
    """An evaluation of lesions alone."""
    return Evaluation(lesions=tuple(lesions))


SIX = evaluation(0.9, 0.8, 0.7, 0.6, 0.85, 0.95)
LESIONS = [
    *[lesion("tumor", "detected", 100)] * 2,
    lesion("tumor", "missed", 0.5),
    lesion("tumor", "false positive", 0.5),
    lesion("cyst", "misclassified", 2),
]
