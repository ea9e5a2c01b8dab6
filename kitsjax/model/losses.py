"""Soft Dice, cross-entropy, a proxy of surface Dice (L1, L2, X2), and the pseudo-Dice (V2).

A new loss is a function `(logits, label, settings, axis_name) -> scalar`, one line in `LOSSES`
and its weight in `LossSettings`.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from kitsjax.labels import EVALUATION_CLASSES
from kitsjax.settings import LossSettings

Logits = Float[Array, "b z y x classes"]
Label = Int[Array, "b z y x"]
Scalar = Float[Array, ""]
Loss = Callable[[Logits, Label, LossSettings, str | None], Scalar]
Regions = Float[Array, "regions b _ _ _"]

_VOXELS = (1, 2, 3)
_REGION_VOXELS = (2, 3, 4)


def dice_loss(
    logits: Logits, label: Label, settings: LossSettings, axis_name: str | None = None
) -> Scalar:
    """Soft Dice over softmax, negated: -1 is perfect, 0 is no overlap (nnU-Net's formula).

    (2 I + s) / max(truth + prediction + s, 1e-8) a class, averaged over classes (background left
    out unless `dice_background`) and samples. With `dice_per_batch`, I and the sums run over the
    batch first, and over the devices of `axis_name` too: the Dice of the global batch.
    """
    probability = jax.nn.softmax(logits.astype(jnp.float32))
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    first = 0 if settings.dice_background else 1
    sums = jnp.stack(
        [
            (probability * truth).sum(_VOXELS),
            probability.sum(_VOXELS),
            truth.sum(_VOXELS),
        ]
    )[..., first:]
    intersection, predicted, true = _share_sums(sums, settings, axis_name)
    smooth = settings.dice_smooth
    dice = (2 * intersection + smooth) / jnp.maximum(true + predicted + smooth, 1e-8)
    return -dice.mean()


def cross_entropy_loss(
    logits: Logits, label: Label, settings: LossSettings, axis_name: str | None = None
) -> Scalar:
    """Categorical cross-entropy, a plain mean over voxels and samples; 0 is perfect."""
    logits = logits.astype(jnp.float32)
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    return (jax.nn.logsumexp(logits, axis=-1) - (logits * truth).sum(-1)).mean()


def boundary_loss(
    logits: Logits, label: Label, settings: LossSettings, axis_name: str | None = None
) -> Scalar:
    """Proxy of surface Dice, negated: -1 is perfect, near 0 is no surface near the other (X2).

    (|P near T| + |T near P| + 1) / (|P| + |T| + 1) for the soft surfaces P and T of each
    evaluation class (kidney+masses, masses, tumor), averaged over classes and samples; with
    `dice_per_batch` the sums run over the global batch first, as in `dice_loss`. "Near" is within
    `boundary_tolerance` voxels along every axis, so a coarser output reaches farther in mm.

    The surface elements are the corners between voxels, as in `evaluate.surfaces`, but each
    counts 1 whatever its area, and the faces of the patch have none. The 1 is one element: a
    class without a surface in both is perfect and one in only one of them scores about 0, as in
    KiTS21's evaluation, and a gradient to remove the last stray element remains.

    A surface has no inside: a mask and its complement score the same, and a confident surface out
    of reach of the true one is told to vanish, not where to go. Use it beside the other terms.
    The idea of a ratio of widened soft boundaries is Bokhovkin and Burnaev's (arXiv:1905.07852).
    """
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    predicted = _soft_surface(_nest(jax.nn.softmax(logits.astype(jnp.float32))))
    true = _soft_surface(_nest(truth))
    reach = settings.boundary_tolerance
    near = predicted * _widen(true, reach) + true * _widen(predicted, reach)
    sums = jnp.stack([near.sum(_REGION_VOXELS).T, (predicted + true).sum(_REGION_VOXELS).T])
    close, size = _share_sums(sums, settings, axis_name)
    return -((close + 1) / (size + 1)).mean()


LOSSES: dict[str, Loss] = {
    "dice": dice_loss,
    "cross_entropy": cross_entropy_loss,
    "boundary": boundary_loss,
}
"""The terms of the loss by name; `LossSettings` has `<name>_weight` for each."""


def deep_supervision_loss(
    outputs: Sequence[Float[Array, "b _ _ _ classes"]],
    label: Label,
    settings: LossSettings,
    axis_name: str | None = None,
) -> Scalar:
    """Weighted sum of every term of `LOSSES` at every output (L1, L2), float32.

    A term of weight 0 is not computed.

    Args:
        outputs: logits, finest first; the finest has the label's shape, the others divide it.
        label: label values.
        settings: section [loss].
        axis_name: mapped axis of devices that share a global batch; None outside pmap.
    """
    weights = supervision_weights(len(outputs))
    total = jnp.zeros((), jnp.float32)
    for weight, logits in zip(weights, outputs, strict=True):
        small = downsample_label(label, logits.shape[1:4])
        for name, loss in LOSSES.items():
            factor = weight * getattr(settings, f"{name}_weight")
            if factor:
                total += factor * loss(logits, small, settings, axis_name)
    return total


def supervision_weights(outputs: int) -> tuple[float, ...]:
    """1, 1/2, 1/4, ... normalized to sum 1 (L2)."""
    halves = [0.5**level for level in range(outputs)]
    return tuple(half / sum(halves) for half in halves)


def downsample_label(label: Label, shape: tuple[int, ...]) -> Int[Array, "b Z Y X"]:
    """Nearest neighbor: of each block of f voxels an axis, voxel f // 2, nearest its center."""
    fz, fy, fx = (n // m for n, m in zip(label.shape[1:], shape, strict=True))
    return label[:, fz // 2 :: fz, fy // 2 :: fy, fx // 2 :: fx]


def dice_counts(logits: Logits, label: Label) -> Float[Array, "classes 3"]:
    """True positives, false positives and false negatives of the argmax, a class (V2).

    Summed over voxels and batch, in float32, which counts exactly up to 2**24 voxels: eight
    patches of 128 cubed a device.
    """
    classes = logits.shape[-1]
    predicted = jax.nn.one_hot(logits.argmax(-1), classes, dtype=jnp.float32)
    true = jax.nn.one_hot(label, classes, dtype=jnp.float32)
    axes = (0, *_VOXELS)
    hit = (predicted * true).sum(axes)
    return jnp.stack([hit, predicted.sum(axes) - hit, true.sum(axes) - hit], axis=-1)


def pseudo_dice(counts: Float[Array, "classes 3"]) -> Scalar:
    """Mean over foreground classes of 2 TP / (2 TP + FP + FN) (nnU-Net's pseudo-Dice).

    Classes absent from both prediction and truth are left out; 0 if all are.
    """
    hit, false_positive, false_negative = counts[1:].T
    size = 2 * hit + false_positive + false_negative
    dice = jnp.where(size > 0, 2 * hit / jnp.maximum(size, 1), 0)
    return dice.sum() / jnp.maximum((size > 0).sum(), 1)


def _share_sums(
    sums: Float[Array, "kinds b classes"], settings: LossSettings, axis_name: str | None
) -> Float[Array, "kinds *rest"]:
    """Sums over each sample's voxels, or with `dice_per_batch` over the global batch's."""
    if settings.dice_per_batch:
        sums = sums.sum(axis=1)
        if axis_name is not None:
            sums = lax.psum(sums, axis_name)
    return sums


def _nest(probability: Logits) -> Regions:
    """Probabilities of the evaluation classes, each a union of labels."""
    # Regions first: the windows below then run along x, contiguous in memory.
    labels = jnp.moveaxis(probability, -1, 0)
    unions = [each.labels for each in EVALUATION_CLASSES.values()]
    return jnp.stack([reduce(jnp.add, [labels[i] for i in union]) for union in unions])


def _soft_surface(probability: Regions) -> Regions:
    """Range of the eight voxels around each corner, in 0..1: 1 where a hard surface passes.

    Corners on the faces of the patch have fewer voxels and are left out: a patch's face is no
    surface. An axis of n voxels has n - 1 corners.
    """
    return _slide(jnp.maximum, probability, 2) - _slide(jnp.minimum, probability, 2)


def _widen(surface: Regions, reach: int) -> Regions:
    """Maximum over the corners within `reach` along every axis; the same shape."""
    voxels = [(reach, reach)] * 3
    return _slide(jnp.maximum, jnp.pad(surface, [(0, 0), (0, 0), *voxels]), 2 * reach + 1)


def _slide(extreme: Callable[[Array, Array], Array], array: Regions, width: int) -> Regions:
    """Maximum or minimum of every window of `width` cubed that fits.

    By shifted arrays, an axis at a time. The gradient of `lax.reduce_window` is a scatter:
    measured on a CPU at 64 cubed, the loss and its gradient take three times as long with it.
    """
    for axis in _REGION_VOXELS:
        size = array.shape[axis] - width + 1
        shifted = [lax.slice_in_dim(array, i, i + size, axis=axis) for i in range(width)]
        array = reduce(extreme, shifted)
    return array
