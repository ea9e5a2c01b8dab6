r"""Augmentation (A1) on the accelerator: pure functions of a key, inside the compiled step.

A patch comes with a margin, its *source*, so that a turned or shrunk patch still finds image:

    source (205)  +---------------------+     draw(key)   which of the six fire, and how much
                  |     / patch  \      |     apply       spatial: one resampling of the source
                  |    / (128)    \     |                 mirror:  flips
                  |    \ turned   /     |                 INTENSITY, in its order
                  |     \        /      |
                  +---------------------+     no spatial draw: exactly the source's center

Rotation and scaling share one resampling; every other augmentation is a function and one line of
`INTENSITY`, with its probability `name` and its range `name_range` in `AugmentSettings`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer, PRNGKeyArray

from kitsjax.data.patches import Shape
from kitsjax.settings import AugmentSettings, Range

Image = Float[Array, "z y x"]
Label = Int32[Array, "z y x"]
Scalar = Float[Array, ""]
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
        angles_rad: about the z, y and x axis; positive turns the lower-numbered of the other two
            axes toward the higher, as `np.rot90` does.
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
    return jax.random.uniform(key, minval=limits[0], maxval=limits[1])


def halves_about_one(key: PRNGKeyArray, limits: Range) -> Scalar:
    """A number between the limits, as often below 1 as above; even on either side (nnU-Net)."""
    low, high = limits
    if not low < 1 < high:
        return uniform(key, limits)
    side = jax.random.uniform(key, minval=-1.0, maxval=1.0)
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


def source_shape(patch_shape: Shape, settings: AugmentSettings) -> Shape:
    """The enlarged patch to read, so that the augmented patch seldom reaches outside it.

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
        fires={n: jax.random.bernoulli(fire_keys[n], getattr(settings, n)) for n in names},
        angles_rad=jax.random.uniform(value_keys["rotate"], (3,), minval=-limit, maxval=limit),
        scale=uniform(value_keys["scale"], settings.scale_range),
        # nnU-Net's rule; all three stay as they are in one of eight.
        flips=jax.random.bernoulli(value_keys["mirror"], 0.5, (3,)),
        values={
            name: sample(value_keys[name], getattr(settings, f"{name}_range"))
            for name, (sample, _) in INTENSITY.items()
        },
    )


def apply(
    draws: Draws, image: Float[Array, "Z Y X"], label: Integer[Array, "Z Y X"], patch_shape: Shape
) -> tuple[Image, Label]:
    """Carry out the draws on a source; see `augment`."""
    fires = draws.fires
    angles_rad = jnp.where(fires["rotate"], draws.angles_rad, 0)
    scale = jnp.where(fires["scale"], draws.scale, 1)
    patch, mask = lax.cond(
        fires["rotate"] | fires["scale"],
        lambda: resample(image, label, patch_shape, angles_rad, scale),
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
        image: normalized intensities of `source_shape(patch_shape, settings)`, any float type.
        label: class indices of the same shape, any integer type.

    Returns:
        The patch at the source's center, float32 and int32. If nothing fires it is, to the bit,
        `source[start : start + patch]` with start = (source - patch) // 2 on each axis.
    """
    return apply(draw(key, settings), image, label, patch_shape)


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


def crop_center(
    image: Float[Array, "Z Y X"], label: Integer[Array, "Z Y X"], patch_shape: Shape
) -> tuple[Image, Label]:
    """The central patch of a source, as float32 and int32."""
    starts = _starts(image.shape, patch_shape)
    window = tuple(slice(a, a + size) for a, size in zip(starts, patch_shape, strict=True))
    return image[window].astype(jnp.float32), label[window].astype(jnp.int32)


def resample(
    image: Float[Array, "Z Y X"],
    label: Integer[Array, "Z Y X"],
    patch_shape: Shape,
    angles_rad: Float[Array, "3"],
    scale: Scalar,
) -> tuple[Image, Label]:
    """Turn and scale the object about the patch's center; the patch that is then seen.

    The image is trilinear, the label nearest at the same points. Outside the source the image is 0
    and the label background, because the pipeline pads volumes and prediction pads windows with
    just these: the network meets one kind of outside.
    """
    corner, fraction = _source_points(image.shape, patch_shape, angles_rad, scale)
    # One voxel of padding a side makes "outside" an ordinary voxel, so that no gather is masked.
    strides = ((image.shape[1] + 2) * (image.shape[2] + 2), image.shape[2] + 2, 1)
    index = sum((c + 1) * stride for c, stride in zip(corner, strides, strict=True))
    values, classes = (jnp.pad(source, 1).ravel() for source in (image, label))

    def at(array: Array, *steps: Array | int) -> Array:
        offset = sum(step * stride for step, stride in zip(steps, strides, strict=True))
        return array.at[index + offset].get(mode="promise_in_bounds")

    def along_x(z: int, y: int) -> Array:
        low, high = (at(values, z, y, x).astype(jnp.float32) for x in (0, 1))
        return low + fraction[2] * (high - low)

    rows = [[along_x(z, y) for y in (0, 1)] for z in (0, 1)]
    low, high = (row[0] + fraction[1] * (row[1] - row[0]) for row in rows)
    nearest = at(classes, *((f >= 0.5).astype(jnp.int32) for f in fraction))
    return low + fraction[0] * (high - low), nearest.astype(jnp.int32)


def flip(array: Array, flips: Bool[Array, "3"]) -> Array:
    """Reverse the axes that are marked."""
    for axis in range(3):
        array = jnp.where(flips[axis], jnp.flip(array, axis), array)
    return array


def rotation_matrix(angles_rad: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Turns (z, y, x) points about x, then y, then z; see `Draws` for the sense."""

    def turn(angle: Scalar, i: int, j: int) -> Float[Array, "3 3"]:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.eye(3).at[i, i].set(cos).at[j, j].set(cos).at[i, j].set(-sin).at[j, i].set(sin)

    about_z, about_y, about_x = angles_rad
    turns = [turn(about_z, 1, 2), turn(about_y, 0, 2), turn(about_x, 0, 1)]
    # The default precision of a product is bfloat16 on a TPU: tenths of a voxel at the edge.
    return jnp.linalg.multi_dot(turns, precision=lax.Precision.HIGHEST)


def _source_points(
    shape: tuple[int, ...], patch_shape: Shape, angles_rad: Float[Array, "3"], scale: Scalar
) -> tuple[list[Int32[Array, "z y x"]], list[Image]]:
    """Where each voxel of the patch comes from: the lower corner's indices, and the way beyond it.

    Corners lie in -1 .. size - 1, fractions in 0 .. 1; -1 and size stand for all that is outside.
    """
    # The inverse of a rotation is its transpose.
    inverse = rotation_matrix(angles_rad).T / scale
    axes = (jnp.arange(size) - (size - 1) / 2 for size in patch_shape)
    offsets = jnp.meshgrid(*axes, indexing="ij", sparse=True)
    corners, fractions = [], []
    for axis, start in enumerate(_starts(shape, patch_shape)):
        # Broadcast sums rather than a matrix product, for float32 on every platform.
        turned = sum(inverse[axis, i] * offsets[i] for i in range(3))
        point = jnp.clip(turned + (start + (patch_shape[axis] - 1) / 2), -1, shape[axis])
        corner = jnp.minimum(jnp.floor(point), shape[axis] - 1)
        corners.append(corner.astype(jnp.int32))
        fractions.append(point - corner)
    return corners, fractions


def _starts(shape: tuple[int, ...], patch_shape: Shape) -> tuple[int, ...]:
    """First voxel of the central patch in a source of the given shape."""
    if any(size < patch for size, patch in zip(shape, patch_shape, strict=True)):
        raise ValueError(f"source {shape} is smaller than the patch {patch_shape}")
    return tuple((size - patch) // 2 for size, patch in zip(shape, patch_shape, strict=True))
