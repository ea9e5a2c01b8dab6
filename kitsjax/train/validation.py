"""The scores of a validation, from what the eval step returned for each batch."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from kitsjax.labels import LabelScheme
from kitsjax.model.pseudo_dice import pseudo_dice
from kitsjax.training_log import Row


def score_validation(metrics: Sequence[Mapping[str, np.ndarray]], scheme: LabelScheme) -> Row:
    """Compute the log's numbers of a validation: its loss and its pseudo-Dice, also by class.

    A class that no true and no predicted voxel has is None, and is left out of the mean.

    Args:
        metrics: of each batch `loss`, its mean loss, and `counts` (class, 3), voxels that are true
            positives, false positives and false negatives.
        scheme: names the classes.
    """
    # Floats of 64 bits hold such sums exactly.
    total = np.asarray([each["counts"] for each in metrics], np.float64).sum(0)
    by_class = {}
    for c in scheme.foreground:
        hit, wrong, missed = total[c]
        size = 2 * hit + wrong + missed
        by_class[f"pseudo_dice_{scheme.names[c]}"] = float(2 * hit / size) if size else None
    loss = float(np.mean([float(each["loss"]) for each in metrics]))
    dice = float(pseudo_dice(jnp.asarray(total, jnp.float32)))
    return {"validation_loss": loss, "pseudo_dice": dice, **by_class}


def continue_average(average: float | None, dice: float, decay: float) -> float:
    """Continue the moving average of the pseudo-Dice; it starts at the first value."""
    return decay * (dice if average is None else average) + (1 - decay) * dice
