"""Map the voxels of a patch to the points of the oversized patch that they are resampled from."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Integer

from kitsjax.types import Shape

ImagePatch = Float[Array, "z y x"]
LabelPatch = Int32[Array, "z y x"]
OversizedImage = Float[Array, "Z Y X"]
OversizedLabel = Integer[Array, "Z Y X"]


def central_start(shape: tuple[int, ...], patch_shape: Shape) -> tuple[int, ...]:
    """Find the first voxel of the central patch in an oversized patch of the given shape.

    Raises:
        ValueError: the oversized patch is smaller than the patch.
    """
    if any(size < patch for size, patch in zip(shape, patch_shape, strict=True)):
        raise ValueError(f"oversized patch {shape} is smaller than the patch {patch_shape}")
    return tuple((size - patch) // 2 for size, patch in zip(shape, patch_shape, strict=True))


def map_to_oversized(
    offsets: Sequence[Array | float],
    inverse: Array | Sequence[Sequence[Array]],
    shape: tuple[int, ...],
    patch_shape: Shape,
) -> list[Array]:
    """Map voxels of the patch to points in the oversized patch.

    Args:
        offsets: (z, y, x) offsets from the patch's center, voxels; each broadcasts to the others.
        inverse: (3, 3) matrix from offsets in the patch to offsets in the oversized patch.
        shape: shape of the oversized patch.
        patch_shape: shape of the patch.

    Returns:
        The points (z, y, x), as voxel indices of the oversized patch with fractions.
    """
    # These are sums of products because a matrix product is not float32 on every platform.
    z, y, x = offsets
    starts = central_start(shape, patch_shape)
    return [
        a * z + b * y + c * x + (start + (size - 1) / 2)
        for (a, b, c), start, size in zip(inverse, starts, patch_shape, strict=True)
    ]


def split_points(
    points: Sequence[Array], shape: tuple[int, ...]
) -> tuple[list[Int32[Array, "..."]], list[Float[Array, "..."]]]:
    """Split each point into a corner, which is the voxel below it, and the fraction beyond.

    Corners are indices of the oversized patch padded by one voxel. The padding makes "outside" an
    ordinary voxel, so that no access needs a mask: points farther outside are moved onto it.

    Args:
        points: (z, y, x), as `map_to_oversized` returns them.
        shape: shape of the oversized patch, without padding.

    Returns:
        Corners in 0 .. size and fractions in 0 .. 1, on each axis.
    """
    corners, fractions = [], []
    for point, size in zip(points, shape, strict=True):
        clipped = jnp.clip(point, -1, size)
        corner = jnp.minimum(jnp.floor(clipped), size - 1)
        corners.append(corner.astype(jnp.int32) + 1)
        fractions.append(clipped - corner)
    return corners, fractions
