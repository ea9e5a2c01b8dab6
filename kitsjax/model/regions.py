"""Regions: the nested evaluation classes as overlapping outputs of a network, and as classes.

Each region has a sigmoid of its own, so that a mass is learned as a whole before its kind is told,
as in nnU-Net's region-based training. Each region has one label that the next does not have
(`LabelScheme.nested_labels`); in KiTS:

    label         kidney and mass   mass   tumor
    background           0            0      0
    kidney               1            0      0
    cyst                 1            1      0
    tumor                1            1      1
"""

from functools import reduce
from itertools import accumulate

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kitsjax.labels import BACKGROUND, LabelScheme
from kitsjax.model.arrays import Label


def predicts_regions(network: nn.Module) -> bool:
    """Tell whether a network's logits are of regions: its field `regions`, if it has one."""
    return bool(getattr(network, "regions", False))


def region_truth(label: Label, scheme: LabelScheme) -> Float[Array, "b z y x regions"]:
    """Mark the voxels of each region, an evaluation class, with 1, the others with 0."""
    unions = [sorted(each.labels) for each in scheme.evaluation]
    masks = [reduce(jnp.logical_or, [label == v for v in union]) for union in unions]
    return jnp.stack(masks, axis=-1).astype(jnp.float32)


def class_probabilities(
    logits: Float[Array, "..."], scheme: LabelScheme, *, regions: bool, axis: int = -1
) -> Float[Array, "..."]:
    """Compute the probabilities of the classes from a network's logits; they sum to 1.

    Without regions it is the softmax. With regions r1, r2, r3, the sigmoids, are first made
    monotone: q1 = r1, q2 = min(q1, r2) and q3 = min(q2, r3), since no voxel is a tumor and no mass.
    Then 1 - q1 is background, q1 - q2 the label that only the first region has (KiTS: kidney),
    q2 - q3 the next one's (cyst), and q3 the last one's (tumor).

    Args:
        logits: of classes or regions.
        scheme: its labels are the classes, and its evaluation classes the regions.
        regions: whether they are of regions.
        axis: the axis of classes or regions.
    """
    if not regions:
        return jax.nn.softmax(logits, axis=axis)
    first, *rest = jnp.moveaxis(jax.nn.sigmoid(logits), axis, 0)
    nested = list(accumulate(rest, jnp.minimum, initial=first))
    larger, smaller = [jnp.ones_like(first), *nested], [*nested, jnp.zeros_like(first)]
    labels = (BACKGROUND, *scheme.nested_labels)
    by_label = {v: a - b for v, a, b in zip(labels, larger, smaller, strict=True)}
    return jnp.stack([by_label[value] for value in range(len(scheme.names))], axis=axis)
