"""The training loss: soft Dice, cross-entropy and a proxy of surface Dice at every output.

A new term is a function `(logits, label, settings, axis_name, scheme=...) -> scalar`, a line in
`loss_terms` and its weight in `LossSettings`. Voxels of the scheme's `ignore`, which nobody
annotated, count in no term: `annotated_voxels` tells the others. A patch without any other voxel
has a loss of 0 and no gradient.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from kitsjax.labels import KITS, LabelScheme
from kitsjax.model.arrays import Label, Logits, Scalar
from kitsjax.model.boundary import compare_soft_surfaces
from kitsjax.model.regions import class_probabilities, region_truth
from kitsjax.settings import LossSettings

LossTerm = Callable[..., Scalar]
"""A term of the loss, with the arguments of `deep_supervision_loss` but for one output's logits."""

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
    *,
    scheme: LabelScheme = KITS,
) -> Scalar:
    """Sum the weighted terms of the loss over the weighted outputs, in float32.

    Args:
        outputs: logits of classes, or of regions with `regions`, finest first; the finest has the
            label's shape, the shapes of the others divide it.
        label: values of the scheme.
        settings: section [loss]; a term of weight 0 is not computed.
        axis_name: mapped axis of devices that share a global batch; None outside pmap.
        scheme: the labels; with `regions` its evaluation classes are the regions.
    """
    total = jnp.zeros((), jnp.float32)
    for output_weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
        small = downsample_label(label, logits.shape[1:4])
        for term_weight, term in loss_terms(settings).values():
            weight = output_weight * term_weight
            if weight:
                total += weight * term(logits, small, settings, axis_name, scheme=scheme)
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


def annotated_voxels(label: Label, scheme: LabelScheme) -> Bool[Array, "b z y x"] | None:
    """Mark the voxels that somebody annotated; None if the scheme has no others."""
    return None if scheme.ignore is None else label != scheme.ignore


def dice_loss(
    logits: Logits,
    label: Label,
    settings: LossSettings,
    axis_name: str | None = None,
    *,
    scheme: LabelScheme,
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
        probability, truth = jax.nn.sigmoid(logits), region_truth(label, scheme)
    else:
        probability = jax.nn.softmax(logits)
        # All 0 where the label is no class, but to be ignored.
        truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    annotated = annotated_voxels(label, scheme)
    if annotated is not None:
        probability = jnp.where(annotated[..., None], probability, 0)
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
    return -_drop_ignored(dice, annotated, settings, axis_name).mean()


def cross_entropy_loss(
    logits: Logits,
    label: Label,
    settings: LossSettings,
    axis_name: str | None = None,
    *,
    scheme: LabelScheme,
) -> Scalar:
    """Average the categorical cross-entropy over voxels and samples; 0 is perfect.

    With `regions` it is the binary cross-entropy, averaged over the regions, too. Where voxels are
    ignored it is the mean over the others of the global batch, over the devices of `axis_name` too.
    """
    annotated = annotated_voxels(label, scheme)
    if settings.regions:
        logits = logits.astype(jnp.float32)
        by_region = jax.nn.softplus(logits) - logits * region_truth(label, scheme)
        if annotated is None:
            return by_region.mean()
        return _average_annotated(by_region.mean(-1), annotated, axis_name)
    # optax.softmax_cross_entropy_with_integer_labels gives the same bits, but its gradient is a
    # scatter: on a CPU at (2, 48, 48, 48, 4) it takes 1.16 times as long, and longer to compile.
    logits = logits.astype(jnp.float32)
    truth = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    by_voxel = jax.nn.logsumexp(logits, axis=-1) - (logits * truth).sum(-1)
    return (
        by_voxel.mean() if annotated is None else _average_annotated(by_voxel, annotated, axis_name)
    )


def boundary_loss(
    logits: Logits,
    label: Label,
    settings: LossSettings,
    axis_name: str | None = None,
    *,
    scheme: LabelScheme,
) -> Scalar:
    """Compute a negated proxy of surface Dice: -1 is perfect, and about 0 is no surface in reach.

    The ratio is (|P near T| + |T near P| + 1) / (|P| + |T| + 1) for the soft surfaces P of the
    prediction and T of the truth, see `compare_soft_surfaces`. It is computed for each evaluation
    class (KiTS: kidney+masses, masses, tumor) and averaged over classes and samples; with
    `dice_per_batch` the sums run over the global batch first. "Near" is within
    `boundary_tolerance` voxels along every axis, so a coarser output reaches farther in mm.

    The 1 is one surface element. With it, a class without a surface in both is perfect and one
    with a surface in only one of them scores about 0, as in KiTS21's evaluation, and there
    remains a gradient to remove the last stray element.

    A surface has no inside: a mask and its complement score the same, and a confident surface out
    of reach of the true one is told to vanish, not where to go. Use this term beside the others.
    The idea of a ratio of widened soft boundaries is Bokhovkin and Burnaev's (arXiv:1905.07852).
    """
    logits, annotated = logits.astype(jnp.float32), annotated_voxels(label, scheme)
    probability = class_probabilities(logits, scheme, regions=settings.regions)
    truth = jax.nn.one_hot(label, probability.shape[-1], dtype=jnp.float32)
    surfaces = compare_soft_surfaces(
        probability, truth, settings.boundary_tolerance, scheme, annotated
    )
    near, size = _batch_sums(jnp.stack(surfaces), settings, axis_name)
    ratio = (near + 1) / (size + 1)
    return -_drop_ignored(ratio, annotated, settings, axis_name).mean()


def _average_annotated(
    by_voxel: Float[Array, "b z y x"], annotated: Bool[Array, "b z y x"], axis_name: str | None
) -> Scalar:
    """Average over the annotated voxels of the global batch; 0 if there are none."""
    total, count = jnp.where(annotated, by_voxel, 0).sum(), annotated.astype(jnp.float32).sum()
    if axis_name is not None:
        # The devices' losses are averaged: each divides by the mean number of voxels, not its own.
        count = lax.pmean(count, axis_name)
    return total / jnp.maximum(count, 1e-8)


def _drop_ignored(
    scores: Float[Array, "*rest"],
    annotated: Bool[Array, "b z y x"] | None,
    settings: LossSettings,
    axis_name: str | None,
) -> Float[Array, "*rest"]:
    """Set the scores of samples (or of a global batch) without any annotated voxel to 0."""
    if annotated is None:
        return scores
    counts = annotated.astype(jnp.float32).sum(_VOXELS)[None, :, None]
    (known,) = _batch_sums(counts, settings, axis_name) > 0
    return jnp.where(known, scores, 0)


def _batch_sums(
    sums: Float[Array, "kinds b classes"], settings: LossSettings, axis_name: str | None
) -> Float[Array, "kinds *rest"]:
    """Sum each sample's sums over the global batch if `dice_per_batch` is set."""
    if settings.dice_per_batch:
        sums = sums.sum(axis=1)
        if axis_name is not None:
            sums = lax.psum(sums, axis_name)
    return sums
