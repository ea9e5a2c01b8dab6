"""The pseudo-Dice, by which a run is followed while it trains.

nnU-Net gives the name pseudo-Dice to the mean Dice over the classes in all validation patches
together; the paper calls it composite Dice. It comes from patches, so it is no Dice of a case.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kitsjax.labels import LabelScheme
from kitsjax.model.arrays import Label, Logits, Scalar
from kitsjax.model.regions import class_probabilities

ClassCounts = Float[Array, "classes 3"]
"""Voxels of each class that are true positives, false positives and false negatives."""


def dice_counts(
    logits: Logits, label: Label, scheme: LabelScheme, *, regions: bool = False
) -> ClassCounts:
    """Count the true positives, false positives and false negatives of each class.

    The predicted class of a voxel is the most probable one. The counts are summed over voxels and
    batch in float32, which is exact up to 2**24 voxels: eight patches of 128 cubed on a device.

    Args:
        logits: of the classes, or of the regions.
        label: class values; voxels of the scheme's `ignore` are not counted.
        scheme: the labels.
        regions: whether the logits are of regions.
    """
    # Logits of classes have the order of their probabilities.
    scores = class_probabilities(logits, scheme, regions=True) if regions else logits
    classes = scores.shape[-1]
    predicted = jax.nn.one_hot(scores.argmax(-1), classes, dtype=jnp.float32)
    if scheme.ignore is not None:
        predicted *= (label != scheme.ignore).astype(jnp.float32)[..., None]
    # A value beyond the classes is none of them.
    true = jax.nn.one_hot(label, classes, dtype=jnp.float32)
    batch_and_voxels = (0, 1, 2, 3)
    hit = (predicted * true).sum(batch_and_voxels)
    false_positive = predicted.sum(batch_and_voxels) - hit
    false_negative = true.sum(batch_and_voxels) - hit
    return jnp.stack([hit, false_positive, false_negative], axis=-1)


def pseudo_dice(counts: ClassCounts) -> Scalar:
    """Average 2 TP / (2 TP + FP + FN) over the foreground classes.

    Classes absent from both prediction and truth are left out; the result is 0 if all are.
    """
    hit, false_positive, false_negative = counts[1:].T
    size = 2 * hit + false_positive + false_negative
    present = size > 0
    dice = jnp.where(present, 2 * hit / jnp.maximum(size, 1), 0)
    return dice.sum() / jnp.maximum(present.sum(), 1).astype(jnp.float32)
