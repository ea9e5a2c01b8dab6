r"""Turning and scaling a patch: one resampling of its source, in forms that give the same numbers.

                 inverse of the turn and scale
    patch voxel  ---------------------------->  point in the source = corner + fraction
                                                  eight voxels about it   image, trilinear
                                                  the nearest of them     label

A GPU and a CPU fetch the eight voxels by gathers. A TPU fetches single numbers slowly, so there
blocks of the patch are made from boxes of the source by matrix products (benchmarks/README.md).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer

from kitsjax.types import Shape

Image = Float[Array, "z y x"]
Label = Int32[Array, "z y x"]
Scalar = Float[Array, ""]
Implementation = Literal["gathers", "products", "portable"]

BLOCK = 8
"""Edge of the blocks of "products", voxels: a larger one's products outweigh the saved slices."""


def crop_center(
    image: Float[Array, "Z Y X"], label: Integer[Array, "Z Y X"], patch_shape: Shape
) -> tuple[Image, Label]:
    """The central patch of a source, as float32 and int32."""
    starts = _starts(image.shape, patch_shape)
    window = tuple(slice(a, a + size) for a, size in zip(starts, patch_shape, strict=True))
    return image[window].astype(jnp.float32), label[window].astype(jnp.int32)


def flip(array: Array, flips: Bool[Array, "3"]) -> Array:
    """Reverse the axes that are marked."""
    for axis in range(3):
        array = jnp.where(flips[axis], jnp.flip(array, axis), array)
    return array


def resample(
    image: Float[Array, "Z Y X"],
    label: Integer[Array, "Z Y X"],
    patch_shape: Shape,
    angles_rad: Float[Array, "3"],
    scale: Scalar,
    least_scale: float,
    implementation: Implementation = "portable",
) -> tuple[Image, Label]:
    """Turn and scale the object about the patch's center; the patch that is then seen.

    The image is trilinear, the label nearest at the same points. Outside the source the image is 0
    and the label background, because the pipeline pads volumes and prediction pads windows with
    just these: the network meets one kind of outside.

    Args:
        angles_rad: see `rotation_matrix`.
        scale: size of the object, factor.
        least_scale: that `scale` is never below; it bounds the boxes of "products".
        implementation: "portable" is the right one on each platform that the program is compiled for.
    """
    # The inverse of a rotation is its transpose.
    inverse = rotation_matrix(angles_rad).T / scale
    gathers = partial(_by_gathers, patch_shape=patch_shape)
    products = partial(_by_products, patch_shape=patch_shape, least_scale=least_scale)
    if implementation == "gathers":
        return gathers(image, label, inverse)
    if implementation == "products":
        return products(image, label, inverse)
    patch: tuple[Image, Label] = lax.platform_dependent(
        image, label, inverse, tpu=products, default=gathers
    )
    return patch


def rotation_matrix(angles_rad: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Turns (z, y, x) points about x, then y, then z.

    Args:
        angles_rad: about the z, y and x axis; positive turns the lower-numbered of the other two
            axes toward the higher, as `np.rot90` does.
    """

    def turn(angle: Scalar, i: int, j: int) -> Float[Array, "3 3"]:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        eye = jnp.eye(3, dtype=jnp.float32)
        return eye.at[i, i].set(cos).at[j, j].set(cos).at[i, j].set(-sin).at[j, i].set(sin)

    about_z, about_y, about_x = angles_rad
    turns = [turn(about_z, 1, 2), turn(about_y, 0, 2), turn(about_x, 0, 1)]
    # The default precision of a product is bfloat16 on a TPU: tenths of a voxel at the edge.
    return jnp.linalg.multi_dot(turns, precision=lax.Precision.HIGHEST)


def _by_gathers(
    image: Array, label: Array, inverse: Float[Array, "3 3"], patch_shape: Shape
) -> tuple[Image, Label]:
    axes = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in patch_shape)
    offsets = jnp.meshgrid(*axes, indexing="ij", sparse=True)
    corner, fraction = _corners(_points(offsets, inverse, image.shape, patch_shape), image.shape)
    values, classes = (jnp.pad(source, 1).ravel() for source in (image, label))
    strides = ((image.shape[1] + 2) * (image.shape[2] + 2), image.shape[2] + 2, 1)
    index = sum(c * stride for c, stride in zip(corner, strides, strict=True))

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


def _by_products(
    image: Array, label: Array, inverse: Float[Array, "3 3"], patch_shape: Shape, least_scale: float
) -> tuple[Image, Label]:
    values, classes = (jnp.pad(source, 1) for source in (image, label))
    depth, height, length = (math.ceil(size / BLOCK) for size in patch_shape)
    first = [-(size - 1) / 2 for size in patch_shape]
    # The voxels n of the blocks b of one line of blocks along x.
    b, z, y, x = jnp.indices((length, *[BLOCK] * 3), dtype=jnp.float32).reshape(4, length, -1)
    # Numbers rather than an array, and out of the loop: a TPU has them beside its vectors.
    rows = [list(row) for row in inverse]
    below = [sum(jnp.minimum(a * (BLOCK - 1), 0) for a in row) for row in rows]
    # The way between two voxels of a block, then half a voxel for rounding, then the corners: the
    # one below the lowest point and the two about the highest.
    extent = math.ceil(math.sqrt(3) * (BLOCK - 1) / least_scale + 0.5) + 3
    box = tuple(min(extent, size) for size in values.shape)

    def origin(*block: Array | float) -> list[Array]:
        """First voxel of the box that holds all that the block beginning there is made from."""
        points = _points(block, rows, image.shape, patch_shape)
        return [
            jnp.clip(jnp.floor(point + under - 0.5).astype(jnp.int32) + 1, 0, size - edge)
            for point, under, size, edge in zip(points, below, values.shape, box, strict=True)
        ]

    def line(number: Array) -> tuple[Array, Array]:
        top, left = first[0] + number // height * BLOCK, first[1] + number % height * BLOCK
        offsets = top + z, left + y, first[2] + b * BLOCK + x
        found = _corners(_points(offsets, rows, image.shape, patch_shape), image.shape)
        origins = [origin(top, left, first[2] + i * BLOCK) for i in range(length)]
        starts = [jnp.stack(along) for along in zip(*origins, strict=True)]
        linear, nearest = zip(*map(_weights, *found, starts, box), strict=True)
        boxes = (
            jnp.stack([lax.dynamic_slice(source, start, box) for start in origins])
            for source in (values, classes)
        )
        value = _weigh(next(boxes), linear, lax.Precision.HIGHEST)
        # A TPU's default product, of bfloat16, is exact for class indices.
        index = _weigh(next(boxes), nearest, lax.Precision.DEFAULT)
        return join(value), join(index.astype(jnp.int32))

    def join(blocks: Array) -> Array:
        cubes = blocks.reshape(length, BLOCK, BLOCK, BLOCK)
        return cubes.transpose(1, 2, 0, 3).reshape(BLOCK, BLOCK, -1)

    def assemble(lines: Array) -> Array:
        grid = lines.reshape(depth, height, BLOCK, BLOCK, -1).swapaxes(1, 2)
        whole = grid.reshape(depth * BLOCK, height * BLOCK, -1)
        return whole[tuple(slice(size) for size in patch_shape)]

    patch, mask = lax.map(line, jnp.arange(depth * height))
    return assemble(patch), assemble(mask)


def _weights(
    corner: Int32[Array, "b n"], fraction: Float[Array, "b n"], start: Int32[Array, "b"], edge: int
) -> tuple[Float[Array, "b k n"], Float[Array, "b k n"]]:
    """How much each of a box's voxels along an axis counts, for the image and for the label."""
    step = jnp.arange(edge)[:, None] - (corner - start[:, None])[:, None]
    beyond = fraction[:, None]
    linear = jnp.where(step == 0, 1 - beyond, jnp.where(step == 1, beyond, 0))
    return linear, (step == (beyond >= 0.5)).astype(jnp.float32)


def _weigh(
    boxes: Array, weights: Sequence[Float[Array, "b k n"]], precision: lax.Precision
) -> Float[Array, "b n"]:
    """Sums of (z, y, x) boxes, weighted along each axis, for each of their blocks' voxels."""
    along_z, along_y, along_x = weights
    boxes = boxes.astype(jnp.float32)
    planes = jnp.einsum("bzyx,bxn->bzyn", boxes, along_x, precision=precision)
    return ((planes * along_z[:, :, None]).sum(axis=1) * along_y).sum(axis=1)


def _points(
    offsets: Sequence[Array | float],
    inverse: Array | Sequence[Sequence[Array]],
    shape: tuple[int, ...],
    patch_shape: Shape,
) -> list[Array]:
    """Where voxels at some offsets from the patch's center come from, in voxels of the source."""
    # Broadcast sums rather than a matrix product, for float32 on every platform.
    z, y, x = offsets
    starts = _starts(shape, patch_shape)
    return [
        a * z + b * y + c * x + (start + (size - 1) / 2)
        for (a, b, c), start, size in zip(inverse, starts, patch_shape, strict=True)
    ]


def _corners(
    points: Sequence[Array], shape: tuple[int, ...]
) -> tuple[list[Int32[Array, "..."]], list[Array]]:
    """The voxel below each point in a source with one voxel of padding, and the way beyond it.

    The padding makes "outside" an ordinary voxel, so that no access is masked: points outside are
    moved to it, corners lie in 0 .. size and fractions in 0 .. 1.
    """
    corners, fractions = [], []
    for point, size in zip(points, shape, strict=True):
        clipped = jnp.clip(point, -1, size)
        corner = jnp.minimum(jnp.floor(clipped), size - 1)
        corners.append(corner.astype(jnp.int32) + 1)
        fractions.append(clipped - corner)
    return corners, fractions


def _starts(shape: tuple[int, ...], patch_shape: Shape) -> tuple[int, ...]:
    """First voxel of the central patch in a source of the given shape."""
    if any(size < patch for size, patch in zip(shape, patch_shape, strict=True)):
        raise ValueError(f"source {shape} is smaller than the patch {patch_shape}")
    return tuple((size - patch) // 2 for size, patch in zip(shape, patch_shape, strict=True))
