"""The training loss: soft Dice, cross-entropy and a proxy of surface Dice at every output.

A new term is a function `(logits, label, settings, axis_name) -> scalar`, a line in `loss_terms`
and its weight in `LossSettings`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from kitsjax.model.arrays import Label, Logits, Scalar
from kitsjax.model.boundary import compare_soft_surfaces
from kitsjax.model.regions import class_probabilities, region_truth
from kitsjax.settings import LossSettings

LossTerm = Callable[[Logits, Label, LossSettings, str | None], Scalar]

_VOXELS = (1, 2, 3)


def loss_terms(settings: LossSettings) -> dict[str, tuple[float, LossTerm]]:
    """List the terms of the loss by name, each with its weight."""
    return {
        "dice": (settings.dice_weight, dice_loss),
        "cross_entropy": (settings.cross_entropy_weight, cross_entropy_loss),
        "boundary": (settings.boundary_weight, boundary_loss),
    }


def deep_supervision_loss(
    outputs: Sequence[Float[Array, "b _ _ _ k"]],
    label: Label,
    settings: LossSettings,
    axis_name: str | None = None,
) -> Scalar:
    """Sum the weighted terms of the loss over the weighted outputs, in float32.

    Args:
        outputs: logits of classes, or of regions with `regions`, finest first; the finest has the
            label's shape, the shapes of the others divide it.
        label: class values.
        settings: section [loss]; a term of weight 0 is not computed.
        axis_name: mapped axis of devices that share a global batch; None outside pmap.
    """
    total = jnp.zeros((), jnp.float32)
    for output_weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
        small = downsample_label(label, logits.shape[1:4])
        for term_weight, term in loss_terms(settings).values():
            weight = output_weight * term_weight
            if weight:
                total += weight * term(logits, small, settings, axis_name)
    return total


def supervision_weights(outputs: int) -> tuple[float, ...]:
    """Weight each output half as much as the one before; the weights sum to 1."""
    halves = [0.5**level for level in range(outputs)]
    return tuple(half / sum(halves) for half in halves)


def downsample_label(label: Label, shape: tuple[int, ...]) -> Int[Array, "b Z Y X"]:
    """Downsample a label to a shape (z, y, x) that divides its own, by nearest neighbor.

    Of each block of f voxels along an axis it takes voxel f // 2, the nearest to the center.
    """
    fz, fy, fx = (n // m for n, m in zip(label.shape[1:], shape, strict=True))
    return label[:, fz // 2 :: fz, fy // 2 :: fy, fx // 2 :: fx]


def dice_loss(
    logits: Logits, label: Label, settings: LossSettings, axis_name: str | None = None
) -> Scalar:
    """Compute the negated soft Dice of the softmax: -1 is perfect, 0 is no overlap.

    The Dice of a class is nnU-Net's (2 I + s) / max(truth + prediction + s, 1e-8), where I is the
    intersection and s is `dice_smooth`. It is averaged over samples and classes, which include
    background only with `dice_background`. With `regions` it is the Dice of the regions, whose
    probabilities are sigmoids. With `dice_per_batch`, I and the sums run over the batch first, and
    over the devices of `axis_name` too: the Dice of the global batch.
    """
    logits = logits.astype(jnp.float32)
    if settings.regions:
        probability, truth = jax.nn.sigmoid(logits), region_truth(label)
    else:
        probability = jax.nn.softmax(logits)
        truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    first = 0 if settings.dice_background or settings.regions else 1
    sums = jnp.stack(
        [
            (probability * truth).sum(_VOXELS),
            probability.sum(_VOXELS),
            truth.sum(_VOXELS),
        ]
    )[..., first:]
    intersection, predicted, true = _batch_sums(sums, settings, axis_name)
    smooth = settings.dice_smooth
    dice = (2 * intersection + smooth) / jnp.maximum(true + predicted + smooth, 1e-8)
    return -dice.mean()


def cross_entropy_loss(
    logits: Logits, label: Label, settings: LossSettings, axis_name: str | None = None
) -> Scalar:
    """Average the categorical cross-entropy over voxels and samples; 0 is perfect.

    With `regions` it is the binary cross-entropy, averaged over the regions, too.
    """
    if settings.regions:
        logits = logits.astype(jnp.float32)
        return (jax.nn.softplus(logits) - logits * region_truth(label)).mean()
    # optax.softmax_cross_entropy_with_integer_labels gives the same bits, but its gradient is a
    # scatter: on a CPU at (2, 48, 48, 48, 4) it takes 1.16 times as long, and longer to compile.
    logits = logits.astype(jnp.float32)
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    return (jax.nn.logsumexp(logits, axis=-1) - (logits * truth).sum(-1)).mean()


def boundary_loss(
    logits: Logits, label: Label, settings: LossSettings, axis_name: str | None = None
) -> Scalar:
    """Compute a negated proxy of surface Dice: -1 is perfect, and about 0 is no surface in reach.

    The ratio is (|P near T| + |T near P| + 1) / (|P| + |T| + 1) for the soft surfaces P of the
    prediction and T of the truth, see `compare_soft_surfaces`. It is computed for each evaluation
    class (kidney+masses, masses, tumor) and averaged over classes and samples; with
    `dice_per_batch` the sums run over the global batch first. "Near" is within
    `boundary_tolerance` voxels along every axis, so a coarser output reaches farther in mm.

    The 1 is one surface element. With it, a class without a surface in both is perfect and one
    with a surface in only one of them scores about 0, as in KiTS21's evaluation, and there
    remains a gradient to remove the last stray element.

    A surface has no inside: a mask and its complement score the same, and a confident surface out
    of reach of the true one is told to vanish, not where to go. Use this term beside the others.
    The idea of a ratio of widened soft boundaries is Bokhovkin and Burnaev's (arXiv:1905.07852).
    """
    probability = class_probabilities(logits.astype(jnp.float32), regions=settings.regions)
    truth = jax.nn.one_hot(label, probability.shape[-1], dtype=jnp.float32)
    sums = jnp.stack(compare_soft_surfaces(probability, truth, settings.boundary_tolerance))
    near, size = _batch_sums(sums, settings, axis_name)
    return -((near + 1) / (size + 1)).mean()


def _batch_sums(
    sums: Float[Array, "kinds b classes"], settings: LossSettings, axis_name: str | None
) -> Float[Array, "kinds *rest"]:
    """Sum each sample's sums over the global batch if `dice_per_batch` is set."""
    if settings.dice_per_batch:
        sums = sums.sum(axis=1)
        if axis_name is not None:
            sums = lax.psum(sums, axis_name)
    return sums
