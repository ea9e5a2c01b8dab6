"""Cases without a class: what was found of it there, apart from the scores of the others.

Dice is 1 where neither truth nor prediction has a voxel of a class, and 0 where the prediction
alone has some (KiTS's definition), so a mean over all cases says little of a class that many
cases lack: chests and heads show no kidney.
"""

import math
from typing import NamedTuple

from kitsjax.evaluate.results import Evaluation


class AbsentClass(NamedTuple):
    """What was found of a class in the cases whose truth has no voxel of it.

    Attributes:
        evaluation_class: key of the class.
        cases: number of cases without it, at least one.
        found_in: number of those in which the prediction has a voxel of it.
        mean_cm3: mean volume that the prediction has of it, over these cases.
        largest_cm3: the largest such volume.
        present: number of the other cases.
        dice, surface_dice: means over those others; nan if there are none.
    """

    evaluation_class: str
    cases: int
    found_in: int
    mean_cm3: float
    largest_cm3: float
    present: int
    dice: float
    surface_dice: float


def find_absent_classes(evaluation: Evaluation, against: str) -> list[AbsentClass]:
    """List the classes that the truth of some cases lacks, in the scheme's order.

    Args:
        evaluation: scores of the cases.
        against: kind of truth, MAJORITY or INDIVIDUAL; of individual annotations a class is absent
            where no sample has a voxel of it.
    """
    found = []
    for key in evaluation.scheme.evaluation_keys:
        rows = [s for s in evaluation.scores if (s.evaluation_class, s.against) == (key, against)]
        volumes = [score.prediction_cm3 for score in rows if score.truth_cm3 == 0]
        present = [score for score in rows if score.truth_cm3 > 0]
        if volumes:
            found.append(
                AbsentClass(
                    key, len(volumes), sum(volume > 0 for volume in volumes),
                    sum(volumes) / len(volumes), max(volumes), len(present),
                    _mean([score.dice for score in present]),
                    _mean([score.surface_dice for score in present]),
                )
            )  # fmt: skip
    return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
