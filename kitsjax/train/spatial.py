r"""Rotation and scaling of a patch: one resampling of the oversized patch, in two implementations.

                 inverse rotation and scaling
    patch voxel  ---------------------------->  point in the oversized patch = corner + fraction
                                                  the eight voxels about it   image, trilinear
                                                  the nearest of them         label

Both implementations give the same numbers up to rounding. "gathers", for a GPU and a CPU, fetches
the eight voxels of each point. A TPU fetches single numbers slowly; there "products" computes the
patch in blocks, each from a box of the oversized patch, by matrix products (benchmarks/README.md).
"""

from functools import partial
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from kitsjax.model.arrays import Scalar
from kitsjax.train.spatial_points import (
    ImagePatch,
    LabelPatch,
    OversizedImage,
    OversizedLabel,
    central_start,
    map_to_oversized,
    split_points,
)
from kitsjax.train.spatial_products import resample_by_products
from kitsjax.types import Shape

ResampleImplementation = Literal["gathers", "products", "portable"]


class SpatialTransform(NamedTuple):
    """A rotation and an isotropic scaling of the object about the patch's center.

    Attributes:
        angles_rad: see `rotation_matrix`.
        scale: size of the object, as a factor.
    """

    angles_rad: Float[Array, "3"]
    scale: Scalar


def crop_center(
    image: OversizedImage, label: OversizedLabel, patch_shape: Shape
) -> tuple[ImagePatch, LabelPatch]:
    """Cut the central patch out of an oversized patch."""
    starts = central_start(image.shape, patch_shape)
    box = tuple(slice(a, a + size) for a, size in zip(starts, patch_shape, strict=True))
    return image[box].astype(jnp.float32), label[box].astype(jnp.int32)


def flip(array: Array, flips: Bool[Array, "3"]) -> Array:
    """Reverse the marked axes."""
    for axis in range(3):
        array = jnp.where(flips[axis], jnp.flip(array, axis), array)
    return array


def resample(
    image: OversizedImage,
    label: OversizedLabel,
    patch_shape: Shape,
    transform: SpatialTransform,
    least_scale: float,
    implementation: ResampleImplementation = "portable",
) -> tuple[ImagePatch, LabelPatch]:
    """Transform the object about the patch's center and cut out the patch.

    The image is interpolated trilinearly; the label is that of the nearest voxel. Outside the
    oversized patch the image is 0 and the label background: the pipeline pads volumes with these
    values, as prediction pads windows, so that the network meets only one kind of outside.

    Args:
        image: oversized patch, see `kitsjax.train.augment.oversized_shape`.
        label: class values of the same shape.
        patch_shape: shape of the patch, voxels.
        transform: what is done to the object.
        least_scale: lower bound of `transform.scale`; it bounds the boxes of "products".
        implementation: "portable" chooses for each platform that the function is compiled for.
    """
    # The inverse of a rotation is its transpose.
    inverse = rotation_matrix(transform.angles_rad).T / transform.scale
    gathers = partial(_resample_by_gathers, patch_shape=patch_shape)
    products = partial(resample_by_products, patch_shape=patch_shape, least_scale=least_scale)
    if implementation == "gathers":
        return gathers(image, label, inverse)
    if implementation == "products":
        return products(image, label, inverse)
    patch: tuple[ImagePatch, LabelPatch] = lax.platform_dependent(
        image, label, inverse, tpu=products, default=gathers
    )
    return patch


def rotation_matrix(angles_rad: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Build the matrix that rotates (z, y, x) points about the x axis, then y, then z.

    Args:
        angles_rad: angles about the z, y and x axis; a positive one rotates the first of the other
            two axes toward the second, as `np.rot90` does.
    """

    def rotation(angle: Scalar, i: int, j: int) -> Float[Array, "3 3"]:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        eye = jnp.eye(3, dtype=jnp.float32)
        return eye.at[i, i].set(cos).at[j, j].set(cos).at[i, j].set(-sin).at[j, i].set(sin)

    about_z, about_y, about_x = angles_rad
    rotations = [rotation(about_z, 1, 2), rotation(about_y, 0, 2), rotation(about_x, 0, 1)]
    # In bfloat16, a TPU's default for products, points at the patch's edge would be off by tenths
    # of a voxel.
    return jnp.linalg.multi_dot(rotations, precision=lax.Precision.HIGHEST)


def _resample_by_gathers(
    image: OversizedImage, label: OversizedLabel, inverse: Float[Array, "3 3"], patch_shape: Shape
) -> tuple[ImagePatch, LabelPatch]:
    # Find the point of each voxel of the patch in the oversized patch.
    axes = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in patch_shape)
    offsets = jnp.meshgrid(*axes, indexing="ij", sparse=True)
    points = map_to_oversized(offsets, inverse, image.shape, patch_shape)
    corner, fraction = split_points(points, image.shape)
    # Address the padded voxels by a single index, that of the corner.
    values, classes = (jnp.pad(array, 1).ravel() for array in (image, label))
    strides = ((image.shape[1] + 2) * (image.shape[2] + 2), image.shape[2] + 2, 1)
    index = sum(c * stride for c, stride in zip(corner, strides, strict=True))

    def fetch(array: Array, *steps: Array | int) -> Array:
        offset = sum(step * stride for step, stride in zip(steps, strides, strict=True))
        return array.at[index + offset].get(mode="promise_in_bounds")

    def along_x(z: int, y: int) -> Array:
        low, high = (fetch(values, z, y, x).astype(jnp.float32) for x in (0, 1))
        return low + fraction[2] * (high - low)

    # Interpolate along x in the four rows about the point, then along y, then along z.
    rows = [[along_x(z, y) for y in (0, 1)] for z in (0, 1)]
    low, high = (row[0] + fraction[1] * (row[1] - row[0]) for row in rows)
    nearest = fetch(classes, *((f >= 0.5).astype(jnp.int32) for f in fraction))
    return low + fraction[0] * (high - low), nearest.astype(jnp.int32)
