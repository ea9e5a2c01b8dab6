r"""The paper's augmentation: pure functions of a random key, compiled into the train step.

A patch is read with a margin, as an *oversized patch* (nnU-Net's initial patch size), so that a
rotated or shrunk patch still finds image. Where neither rotation nor scaling is applied, the patch
is exactly the center of the oversized patch.

    oversized (205)  +---------------------+    sample_parameters  which of the six augmentations
                     |     / patch  \      |                       are applied, and how strongly
                     |    / (128),   \     |    apply_parameters   rotate, scale: one resampling
                     |    \ rotated  /     |                       mirror: flips of the axes
                     |     \        /      |                       INTENSITY, in its order
                     +---------------------+

Rotation and scaling share one resampling, `kitsjax.train.spatial`. The augmentations of the
intensities are listed in `kitsjax.train.intensity`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer, PRNGKeyArray

from kitsjax.model.arrays import Image, Label, Scalar
from kitsjax.settings import AugmentSettings
from kitsjax.train.intensity import INTENSITY, sample_uniform
from kitsjax.train.spatial import SpatialTransform, crop_center, flip, resample
from kitsjax.train.spatial_points import ImagePatch, LabelPatch, OversizedImage, OversizedLabel
from kitsjax.train.step import DeviceBatch
from kitsjax.types import Shape

# nnU-Net makes the oversized patch large enough for this scale, not for the smallest one: a smaller
# scale leaves few corners empty, and the oversized patch is 205 voxels wide rather than 249.
OVERSIZED_SCALE = 0.85


class AugmentParameters(NamedTuple):
    """The sampled parameters of one patch.

    Attributes:
        applied: which augmentations are applied, by their names in `AugmentSettings`; the values
            of the others are ignored.
        angles_rad: see `kitsjax.train.spatial.rotation_matrix`.
        scale: size of the object, as a factor.
        flips: which of the z, y and x axes are flipped.
        values: value of each augmentation in `INTENSITY`.
    """

    applied: dict[str, Bool[Array, ""]]
    angles_rad: Float[Array, "3"]
    scale: Scalar
    flips: Bool[Array, "3"]
    values: dict[str, Scalar]


def oversized_shape(patch_shape: Shape, settings: AugmentSettings) -> Shape:
    """Compute the shape of the oversized patch, which an augmented patch seldom reaches beyond.

    nnU-Net's rule: the extent of the patch rotated about any one axis, over 0.85. For 128 voxels
    and 30 degrees that is 205 voxels. The result is the patch's own shape if neither rotation nor
    scaling can be applied.
    """
    if not (settings.rotate or settings.scale):
        return patch_shape
    limit = math.radians(settings.rotation_degrees) if settings.rotate else 0.0
    shrink = max(OVERSIZED_SCALE, min(1.0, settings.scale_range[0])) if settings.scale else 1.0

    def extent(edge: int, other: int) -> float:
        # Rotated beyond the angle of its diagonal, a box becomes narrower again.
        angle = min(limit, math.atan2(other, edge))
        return edge * math.cos(angle) + other * math.sin(angle)

    z, y, x = patch_shape
    extents = [max(extent(a, b), extent(a, c)) for a, b, c in ((z, y, x), (y, z, x), (x, z, y))]
    z, y, x = (int(size / shrink) for size in extents)
    return z, y, x


def sample_parameters(key: PRNGKeyArray, settings: AugmentSettings) -> AugmentParameters:
    """Sample which augmentations are applied to one patch, and how strongly."""
    intensity = {name: entry.read_settings(settings) for name, entry in INTENSITY.items()}
    probabilities = {
        "rotate": settings.rotate,
        "scale": settings.scale,
        "mirror": settings.mirror,
        **{name: probability for name, (probability, _) in intensity.items()},
    }
    # Each augmentation has two keys: one for its chance and one for its value.
    keys = jax.random.split(key, (len(probabilities), 2))
    chance_keys = dict(zip(probabilities, keys[:, 0], strict=True))
    value_keys = dict(zip(probabilities, keys[:, 1], strict=True))

    limit = math.radians(settings.rotation_degrees)
    return AugmentParameters(
        applied={
            name: jax.random.bernoulli(chance_keys[name], jnp.float32(probability))
            for name, probability in probabilities.items()
        },
        angles_rad=jax.random.uniform(value_keys["rotate"], (3,), jnp.float32, -limit, limit),
        scale=sample_uniform(value_keys["scale"], settings.scale_range),
        # nnU-Net's rule, under which one patch in eight keeps all three axes.
        flips=jax.random.bernoulli(value_keys["mirror"], jnp.float32(0.5), (3,)),
        values={
            name: INTENSITY[name].sample(value_keys[name], limits)
            for name, (_, limits) in intensity.items()
        },
    )


def apply_parameters(
    parameters: AugmentParameters,
    image: OversizedImage,
    label: OversizedLabel,
    patch_shape: Shape,
    settings: AugmentSettings,
) -> tuple[ImagePatch, LabelPatch]:
    """Augment an oversized patch by sampled parameters; see `augment`."""
    applied = parameters.applied
    # A rotation or scaling that is not applied gets the value that changes nothing.
    angles_rad = jnp.where(applied["rotate"], parameters.angles_rad, 0)
    scale = jnp.where(applied["scale"], parameters.scale, 1)
    least_scale = min(1.0, settings.scale_range[0]) if settings.scale else 1.0
    patch, mask = lax.cond(
        applied["rotate"] | applied["scale"],
        lambda: resample(
            image, label, patch_shape, SpatialTransform(angles_rad, scale), least_scale
        ),
        lambda: crop_center(image, label, patch_shape),
    )
    flips = parameters.flips & applied["mirror"]
    patch, mask = flip(patch, flips), flip(mask, flips)
    for name, augmentation in INTENSITY.items():
        value = parameters.values[name]
        patch = lax.cond(applied[name], augmentation.adjust, lambda x, _: x, patch, value)
    return patch, mask


def augment(
    key: PRNGKeyArray,
    image: OversizedImage,
    label: OversizedLabel,
    patch_shape: Shape,
    settings: AugmentSettings,
) -> tuple[ImagePatch, LabelPatch]:
    """Turn an oversized patch into an augmented patch.

    Args:
        key: the same key gives the same patch.
        image: normalized intensities of shape `oversized_shape(patch_shape, settings)`.
        label: class values of the same shape.
        patch_shape: shape of the patch, voxels.
        settings: probabilities and ranges.

    Returns:
        The patch at the center, float32 and int32. If nothing is applied it equals, to the bit,
        `oversized[start : start + patch]` with start = (oversized - patch) // 2 on each axis.
    """
    parameters = sample_parameters(key, settings)
    return apply_parameters(parameters, image, label, patch_shape, settings)


def augment_batch(
    keys: PRNGKeyArray,
    images: Float[Array, "b Z Y X"],
    labels: Integer[Array, "b Z Y X"],
    patch_shape: Shape,
    settings: AugmentSettings,
) -> tuple[Image, Label]:
    """Augment a batch of oversized patches, each by its own key; see `augment`."""

    # One patch after another skips what is not applied; vmap would compute every branch and select
    # (64 cubed on two CPU cores: 109 against 6 ms a patch). A patch of 128 cubed alone, 2 million
    # voxels, keeps an accelerator busy, and the temporary arrays are those of one patch.
    def augment_one(sample: tuple[Array, Array, Array]) -> tuple[ImagePatch, LabelPatch]:
        key, image, label = sample
        return augment(key, image, label, patch_shape, settings)

    return lax.map(augment_one, (keys, images, labels))


def sample_keys(seed: int, index: Int32[Array, " b"]) -> PRNGKeyArray:
    """Derive each sample's random key from (seed, index) alone: equal on any device or restart."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)


def augment_patches(
    batch: DeviceBatch, *, seed: int, patch_shape: Shape, settings: AugmentSettings
) -> tuple[Image, Label]:
    """Augment a batch as in the paper; bind all arguments but the batch for `train_step`.

    Args:
        batch: image and label (b, Z, Y, X), oversized patches of the shape that
            `oversized_shape(patch_shape, settings)` gives; index (b,).
        seed: decides, together with a sample's index, how that sample is augmented.
        patch_shape: (z, y, x) in voxels, of the patches that the network gets.
        settings: section [augment] of the settings.
    """
    keys = sample_keys(seed, batch["index"])
    return augment_batch(keys, batch["image"], batch["label"], patch_shape, settings)
