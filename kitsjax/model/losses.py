"""Soft Dice and cross-entropy under deep supervision (L1, L2), and the composite Dice (V2).

A new loss is a function `(logits, label, settings, axis_name) -> scalar`, one line in `LOSSES`
and its weight in `LossSettings`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from kitsjax.config import LossSettings

Logits = Float[Array, "b z y x classes"]
Label = Int[Array, "b z y x"]
Scalar = Float[Array, ""]
Loss = Callable[[Logits, Label, LossSettings, str | None], Scalar]

_VOXELS = (1, 2, 3)


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
    if settings.dice_per_batch:
        sums = sums.sum(axis=1)
        if axis_name is not None:
            sums = lax.psum(sums, axis_name)
    intersection, predicted, true = sums
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


LOSSES: dict[str, Loss] = {"dice": dice_loss, "cross_entropy": cross_entropy_loss}
"""The terms of the loss by name; `LossSettings` has `<name>_weight` for each."""


def deep_supervision_loss(
    outputs: Sequence[Float[Array, "b _ _ _ classes"]],
    label: Label,
    settings: LossSettings,
    axis_name: str | None = None,
) -> Scalar:
    """Weighted sum of every term of `LOSSES` at every output (L1, L2), float32.

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


def composite_dice(counts: Float[Array, "classes 3"]) -> Scalar:
    """Mean over foreground classes of 2 TP / (2 TP + FP + FN) (nnU-Net's pseudo-Dice).

    Classes absent from both prediction and truth are left out; 0 if all are.
    """
    hit, false_positive, false_negative = counts[1:].T
    size = 2 * hit + false_positive + false_negative
    dice = jnp.where(size > 0, 2 * hit / jnp.maximum(size, 1), 0)
    return dice.sum() / jnp.maximum((size > 0).sum(), 1)
