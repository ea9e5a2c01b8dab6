"""Resampling of an oversized patch by matrix products, which suit a TPU.

The patch is divided into blocks. All voxels that a block is computed from lie in one box of the
oversized patch. The box is cut out in one slice, and each voxel of the block is a sum over the box,
weighted along each axis: with the two trilinear weights for the image, with a single one for the
label. Blocks are computed a line at a time, a line being all blocks along x.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from kitsjax.train.spatial_points import (
    ImagePatch,
    LabelPatch,
    OversizedImage,
    OversizedLabel,
    map_to_oversized,
    split_points,
)
from kitsjax.types import Shape

BLOCK = 8
"""Edge of a block, voxels. With larger blocks the products cost more than fewer slices save."""


def resample_by_products(
    image: OversizedImage,
    label: OversizedLabel,
    inverse: Float[Array, "3 3"],
    patch_shape: Shape,
    least_scale: float,
) -> tuple[ImagePatch, LabelPatch]:
    """Compute the patch in blocks; see `kitsjax.train.spatial.resample`.

    Args:
        image: oversized patch.
        label: class values of the same shape.
        inverse: matrix from offsets in the patch to offsets in the oversized patch.
        patch_shape: shape of the patch, voxels.
        least_scale: lower bound of the scale that `inverse` divides by.
    """
    padded = [jnp.pad(array, 1) for array in (image, label)]
    depth, height, length = (math.ceil(size / BLOCK) for size in patch_shape)
    first_z, first_y, first_x = (-(size - 1) / 2 for size in patch_shape)
    # Number the blocks of a line along x, and the voxels within each block.
    b, z, y, x = jnp.indices((length, *[BLOCK] * 3), dtype=jnp.float32).reshape(4, length, -1)
    # Take the numbers out of the matrix before the loop: a TPU keeps scalars beside its vectors.
    rows = [list(row) for row in inverse]
    points_at = partial(map_to_oversized, inverse=rows, shape=image.shape, patch_shape=patch_shape)
    # On each axis the lowest point of a block lies this far from the point of its first voxel.
    lowest = [sum(jnp.minimum(a * (BLOCK - 1), 0) for a in row) for row in rows]
    # A box holds the diagonal of a block, half a voxel for rounding, and the corners at both ends.
    edge = math.ceil(math.sqrt(3) * (BLOCK - 1) / least_scale + 0.5) + 3
    box = tuple(min(edge, size) for size in padded[0].shape)

    def resample_line(number: Int32[Array, ""]) -> tuple[Array, Array]:
        # Find the points of all voxels of the line's blocks.
        line_z = first_z + (number // height * BLOCK).astype(jnp.float32)
        line_y = first_y + (number % height * BLOCK).astype(jnp.float32)
        points = points_at((line_z + z, line_y + y, first_x + b * BLOCK + x))
        corners, fractions = split_points(points, image.shape)
        # Find the box of each block in the oversized patch, and cut it out.
        first_points = [points_at((line_z, line_y, first_x + i * BLOCK)) for i in range(length)]
        origins = [_box_origin(point, lowest, padded[0].shape, box) for point in first_points]
        starts = [jnp.stack(along) for along in zip(*origins, strict=True)]
        linear, nearest = zip(*map(_axis_weights, corners, fractions, starts, box), strict=True)
        values, classes = (
            jnp.stack([lax.dynamic_slice(array, origin, box) for origin in origins])
            for array in padded
        )
        # Sum the voxels of each box with their weights along each axis.
        patch = _weighted_sums(values, linear, lax.Precision.HIGHEST)
        # A TPU's default product is in bfloat16, which holds class values exactly.
        mask = _weighted_sums(classes, nearest, lax.Precision.DEFAULT)
        return _join_blocks(patch), _join_blocks(mask.astype(jnp.int32))

    patch, mask = lax.map(resample_line, jnp.arange(depth * height, dtype=jnp.int32))
    return _join_lines(patch, height, patch_shape), _join_lines(mask, height, patch_shape)


def _box_origin(
    first: Sequence[Array],
    lowest: Sequence[Array | int],
    padded_shape: tuple[int, ...],
    box: tuple[int, ...],
) -> list[Int32[Array, ""]]:
    """Find the first voxel of the box that holds all voxels that a block is computed from.

    Args:
        first: point of the block's first voxel.
        lowest: offset from there to the block's lowest point on each axis.
        padded_shape: shape of the padded oversized patch.
        box: shape of the box.
    """
    return [
        # Go half a voxel down for rounding, and one voxel up for the padding.
        jnp.clip(jnp.floor(point + offset - 0.5).astype(jnp.int32) + 1, 0, size - edge)
        for point, offset, size, edge in zip(first, lowest, padded_shape, box, strict=True)
    ]


def _axis_weights(
    corner: Int32[Array, "block voxel"],
    fraction: Float[Array, "block voxel"],
    start: Int32[Array, "block"],
    edge: int,
) -> tuple[Float[Array, "block edge voxel"], Float[Array, "block edge voxel"]]:
    """Weight the voxels along one edge of each box, for the image and for the label.

    Args:
        corner: voxel below the point of each voxel of a block, in the padded oversized patch.
        fraction: way from there to the point, 0 .. 1.
        start: first voxel of each block's box.
        edge: length of the box along the axis.
    """
    # Number the voxels of the box from the corner upward.
    above = jnp.arange(edge, dtype=jnp.int32)[None, :, None] - (corner - start[:, None])[:, None]
    fraction = fraction[:, None]
    # The corner counts 1 - fraction, the voxel above it fraction, all others nothing.
    linear = jnp.where(above == 0, 1 - fraction, jnp.where(above == 1, fraction, 0))
    nearest = above == (fraction >= 0.5).astype(jnp.int32)
    return linear, nearest.astype(jnp.float32)


def _weighted_sums(
    boxes: Array, weights: Sequence[Float[Array, "block edge voxel"]], precision: lax.Precision
) -> Float[Array, "block voxel"]:
    """Sum each (z, y, x) box with the weights along its axes, once for each voxel of its block."""
    along_z, along_y, along_x = weights
    boxes = boxes.astype(jnp.float32)
    planes = jnp.einsum("bzyx,bxn->bzyn", boxes, along_x, precision=precision)
    rows = (planes * along_z[:, :, None]).sum(axis=1)
    return (rows * along_y).sum(axis=1)


def _join_blocks(blocks: Array) -> Array:
    """Join the blocks of a line, (block, voxel), to an array (BLOCK, BLOCK, x)."""
    cubes = blocks.reshape(-1, BLOCK, BLOCK, BLOCK)
    return cubes.transpose(1, 2, 0, 3).reshape(BLOCK, BLOCK, -1)


def _join_lines(lines: Array, height: int, patch_shape: Shape) -> Array:
    """Join the lines, y fastest with `height` of them, and cut off what exceeds the patch."""
    grid = lines.reshape(-1, height, BLOCK, BLOCK, lines.shape[-1]).swapaxes(1, 2)
    whole = grid.reshape(-1, height * BLOCK, lines.shape[-1])
    return whole[tuple(slice(size) for size in patch_shape)]
