r"""Augmentation (A1) on the accelerator: pure functions of a key, inside the compiled step.

A patch comes with a margin, its *source*, so that a turned or shrunk patch still finds image:

    source (205)  +---------------------+     draw(key)   which of the six fire, and how much
                  |     / patch  \      |     apply       spatial: one resampling of the source
                  |    / (128)    \     |                 mirror:  flips
                  |    \ turned   /     |                 INTENSITY, in its order
                  |     \        /      |
                  +---------------------+     no spatial draw: exactly the source's center

Rotation and scaling share one resampling, `kitsjax.train.spatial`; every other augmentation is a
function and one line of `INTENSITY`, with its probability `name` and its range `name_range` in
`AugmentSettings`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer, PRNGKeyArray

from kitsjax.settings import AugmentSettings, Range
from kitsjax.train.spatial import Image, Label, Scalar, crop_center, flip, resample
from kitsjax.types import Shape

Sampler = Callable[[PRNGKeyArray, Range], Scalar]
Adjustment = Callable[[Image, Scalar], Image]

# nnU-Net enlarges the source for this shrinkage, not for the smallest scale: the corners that a
# stronger one leaves empty are few, and the source stays 205 rather than 249 voxels wide.
SOURCE_SCALE = 0.85

# Keeps divisions finite in a patch of one value; far below the noise of a normalized image.
EPSILON = 1e-7


class Draws(NamedTuple):
    """What chance decided for one patch; a value counts only where its draw fires.

    Attributes:
        fires: of each augmentation, by its name in `AugmentSettings`.
        angles_rad: about the z, y and x axis, as in `rotation_matrix`.
        scale: size of the object, factor.
        flips: of the z, y and x axis.
        values: of each augmentation of `INTENSITY`.
    """

    fires: dict[str, Bool[Array, ""]]
    angles_rad: Float[Array, "3"]
    scale: Scalar
    flips: Bool[Array, "3"]
    values: dict[str, Scalar]


def uniform(key: PRNGKeyArray, limits: Range) -> Scalar:
    """A number evenly between the limits."""
    return jax.random.uniform(key, (), jnp.float32, *limits)


def halves_about_one(key: PRNGKeyArray, limits: Range) -> Scalar:
    """A number between the limits, as often below 1 as above; even on either side (nnU-Net)."""
    low, high = limits
    if not low < 1 < high:
        return uniform(key, limits)
    side = uniform(key, (-1.0, 1.0))
    return 1 + side * jnp.where(side < 0, 1 - low, high - 1)


def adjust_brightness(image: Image, factor: Scalar) -> Image:
    """Multiply the intensities."""
    return image * factor


def adjust_contrast(image: Image, factor: Scalar) -> Image:
    """Stretch the intensities about their mean, clipped to the range they had."""
    mean = image.mean()
    return jnp.clip((image - mean) * factor + mean, image.min(), image.max())


def adjust_gamma(image: Image, exponent: Scalar) -> Image:
    """Raise the intensities, as fractions of their range, to a power; mean and sd are kept."""
    low, high = image.min(), image.max()
    spread = high - low
    powered = ((image - low) / jnp.maximum(spread, EPSILON)) ** exponent * spread + low
    deviation = (powered - powered.mean()) / jnp.maximum(powered.std(), EPSILON)
    return deviation * image.std() + image.mean()


INTENSITY: dict[str, tuple[Sampler, Adjustment]] = {
    "brightness": (uniform, adjust_brightness),
    "contrast": (uniform, adjust_contrast),
    "gamma": (halves_about_one, adjust_gamma),
}
"""By name in `AugmentSettings`: how a value is drawn from `name_range`, and what it does."""


def oversized_shape(patch_shape: Shape, settings: AugmentSettings) -> Shape:
    """The oversized_start patch to read, so that the augmented patch seldom reaches outside it.

    nnU-Net's rule: the extent of the patch turned about any one axis, over 0.85: 205 voxels for
    128 at 30 degrees. The patch's own shape if nothing spatial can fire.
    """
    if not (settings.rotate or settings.scale):
        return patch_shape
    limit = math.radians(settings.rotation_degrees) if settings.rotate else 0.0
    shrink = max(SOURCE_SCALE, min(1.0, settings.scale_range[0])) if settings.scale else 1.0

    def extent(edge: int, other: int) -> float:
        # Beyond the diagonal's angle a turned box becomes narrower again.
        angle = min(limit, math.atan2(other, edge))
        return edge * math.cos(angle) + other * math.sin(angle)

    z, y, x = patch_shape
    extents = [max(extent(a, b), extent(a, c)) for a, b, c in ((z, y, x), (y, z, x), (x, z, y))]
    z, y, x = (int(size / shrink) for size in extents)
    return z, y, x


def draw(key: PRNGKeyArray, settings: AugmentSettings) -> Draws:
    """Decide by chance which augmentations fire for one patch, and how strongly."""
    names = ("rotate", "scale", "mirror", *INTENSITY)
    keys = jax.random.split(key, (len(names), 2))
    fire_keys = dict(zip(names, keys[:, 0], strict=True))
    value_keys = dict(zip(names, keys[:, 1], strict=True))

    limit = math.radians(settings.rotation_degrees)
    return Draws(
        fires={
            n: jax.random.bernoulli(fire_keys[n], jnp.float32(getattr(settings, n))) for n in names
        },
        angles_rad=jax.random.uniform(value_keys["rotate"], (3,), jnp.float32, -limit, limit),
        scale=uniform(value_keys["scale"], settings.scale_range),
        # nnU-Net's rule; all three stay as they are in one of eight.
        flips=jax.random.bernoulli(value_keys["mirror"], jnp.float32(0.5), (3,)),
        values={
            name: sample(value_keys[name], getattr(settings, f"{name}_range"))
            for name, (sample, _) in INTENSITY.items()
        },
    )


def apply(
    draws: Draws,
    image: Float[Array, "Z Y X"],
    label: Integer[Array, "Z Y X"],
    patch_shape: Shape,
    settings: AugmentSettings,
) -> tuple[Image, Label]:
    """Carry out the draws on a source; see `augment`."""
    fires = draws.fires
    angles_rad = jnp.where(fires["rotate"], draws.angles_rad, 0)
    scale = jnp.where(fires["scale"], draws.scale, 1)
    least_scale = min(1.0, settings.scale_range[0]) if settings.scale else 1.0
    patch, mask = lax.cond(
        fires["rotate"] | fires["scale"],
        lambda: resample(image, label, patch_shape, angles_rad, scale, least_scale),
        lambda: crop_center(image, label, patch_shape),
    )
    flips = draws.flips & fires["mirror"]
    patch, mask = flip(patch, flips), flip(mask, flips)
    for name, (_, adjust) in INTENSITY.items():
        patch = lax.cond(fires[name], adjust, lambda x, _: x, patch, draws.values[name])
    return patch, mask


def augment(
    key: PRNGKeyArray,
    image: Float[Array, "Z Y X"],
    label: Integer[Array, "Z Y X"],
    patch_shape: Shape,
    settings: AugmentSettings,
) -> tuple[Image, Label]:
    """Turn a source patch into an augmented patch.

    Args:
        key: decides everything by chance; the same key gives the same patch.
        image: normalized intensities of `oversized_shape(patch_shape, settings)`, any float type.
        label: class indices of the same shape, any integer type.

    Returns:
        The patch at the source's center, float32 and int32. If nothing fires it is, to the bit,
        `source[start : start + patch]` with start = (source - patch) // 2 on each axis.
    """
    return apply(draw(key, settings), image, label, patch_shape, settings)


def augment_batch(
    keys: PRNGKeyArray,
    images: Float[Array, "b Z Y X"],
    labels: Integer[Array, "b Z Y X"],
    patch_shape: Shape,
    settings: AugmentSettings,
) -> tuple[Float[Array, "b z y x"], Int32[Array, "b z y x"]]:
    """`augment` for a batch, with a key a patch."""

    # One patch after another skips what does not fire; vmap would compute every branch and select
    # (64 cubed on two CPU cores: 109 against 6 ms a patch). A patch of 128 cubed alone, 2 million
    # voxels, keeps an accelerator busy, and the temporary arrays are those of one patch.
    def one(sample: tuple[Array, Array, Array]) -> tuple[Image, Label]:
        key, image, label = sample
        return augment(key, image, label, patch_shape, settings)

    return lax.map(one, (keys, images, labels))
