"""The weighted sum over the windows of one image, slab by slab along z.

Windows come z by z. Once all windows at one z have been added, no later window reaches the planes
before the next z: they are finished and leave the device, and the others move to the front. So the
sums are as deep as a window, however long the CT is.

    image      |-----------------------------------|
    windows    [--------]
                    [--------]
                         [--------]
    finished   |---||---||--- ...     each after the windows that start before it
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num, UInt8

from kitsjax.infer.sliding_window import (
    bucket_shape,
    most_probable,
    normalize_sums,
    pad_volume,
    place_volume,
)
from kitsjax.types import Box, Shape

SLAB_PLANES = 8
"""At most so many planes leave the device together."""


@partial(jax.jit, donate_argnums=0)
def add_window(
    sums: Float[Array, "k d Y X"],
    windows: Float[Array, "b k d h w"],
    number: Int[Array, ""] | int,
    corner: Int[Array | np.ndarray, " 2"],
) -> Float[Array, "k d Y X"]:
    """Add window `number` of a batch at a corner (y, x), in place."""
    window = lax.dynamic_index_in_dim(windows, number, keepdims=False)
    place = (0, 0, corner[0], corner[1])
    before = lax.dynamic_slice(sums, place, window.shape)
    return lax.dynamic_update_slice(sums, before + window, place)


@partial(jax.jit, donate_argnums=0)
def drop_planes(
    sums: Float[Array, "k d Y X"], count: Int[Array, ""] | int
) -> Float[Array, "k d Y X"]:
    """Drop the first planes, move the others to the front, and fill up with zeros, in place."""
    depth = sums.shape[1]

    def move(z: Int[Array, ""], sums: Float[Array, "k d Y X"]) -> Float[Array, "k d Y X"]:
        moved = lax.dynamic_index_in_dim(sums, z + count, axis=1)
        plane = jnp.where(z + count < depth, moved, 0)
        return lax.dynamic_update_index_in_dim(sums, plane, z, axis=1)

    return lax.fori_loop(0, depth, move, sums)


@partial(jax.jit, static_argnames=("planes", "by_class"))
def finish_planes(
    sums: Float[Array, "k d Y X"], first: Int[Array, ""] | int, *, planes: int, by_class: bool
) -> Float[Array, "k n Y X"] | UInt8[Array, "n Y X"]:
    """Compute the probabilities of some planes, or only their most probable classes."""
    part = lax.dynamic_slice_in_dim(sums, first, planes, axis=1)
    return normalize_sums(part) if by_class else most_probable(part)


def sums_shape(shape: Shape, patch_shape: Shape, bucket: int) -> Shape:
    """Return the shape (z, y, x) of the sums over the windows of an image, for each class.

    Args:
        shape: (z, y, x) of the image.
        patch_shape: (z, y, x) of a window.
        bucket: see `PredictSettings.bucket`.
    """
    _, rows, columns = bucket_shape(shape, patch_shape, bucket)
    return patch_shape[0], rows, columns


@dataclass(frozen=True)
class Slab:
    """Neighboring planes of an image that no later window touches.

    Attributes:
        planes: on the device: labels (z, y, x), or probabilities (class, z, y, x).
        box: slices (z, y, x) of the planes that belong to the image.
    """

    planes: Array
    box: Box

    @property
    def depth(self) -> int:
        """Number of planes that belong to the image."""
        return self.box[0].stop - self.box[0].start

    def read(self) -> np.ndarray:
        """Copy the planes to the host, once the device has computed them."""
        return np.asarray(self.planes)[..., *self.box]


def take_image(slabs: Iterator[Slab | Exception], depth: int) -> Iterator[Slab | Exception]:
    """Yield the slabs of one image up to its last plane, without a look at what follows.

    So its mask is made before the devices have come to the next image.
    """
    for slab in slabs:
        yield slab
        if isinstance(slab, Exception) or not (depth := depth - slab.depth):
            return


class SlabSums:
    """The sums over the windows of one image, on one device.

    They take 4 bytes a class for each voxel of `sums_shape`, whatever the length of the CT, and are
    changed in place.

    Attributes:
        images: the image, once for each normalization, padded where the window is larger.
        patch_shape: (z, y, x) of a window.
        failed: whether the image is given up.
    """

    def __init__(
        self,
        images: Num[np.ndarray, "i z y x"],
        patch_shape: Shape,
        bucket: int,
        by_class: bool,
    ) -> None:
        """Begin with no window.

        Args:
            images: the preprocessed image, once for each normalization.
            patch_shape: (z, y, x) of a window.
            bucket: see `PredictSettings.bucket`.
            by_class: whether slabs hold probabilities; else labels.
        """
        self.patch_shape = patch_shape
        self.images = pad_volume(images, self.patch_shape)
        self.failed = False
        z, y, x = images.shape[1:]
        self._place = place_volume((z, y, x), self.patch_shape)
        self._shape = sums_shape((z, y, x), self.patch_shape, bucket)
        self._by_class = by_class
        # The plane of the padded image where the sums begin.
        self._start = 0
        self._sums: Array | None = None

    def add(
        self, windows: Float[Array, "b k d h w"], number: int, corner: Sequence[int]
    ) -> Iterator[Slab]:
        """Add window `number` of a batch at a corner (z, y, x); yield the slabs before it.

        The windows are probabilities times importance. They must come in the order of
        `window_positions`; the sums are on the device of the first.
        """
        z, *at = corner
        yield from self._finish(z)
        if self._sums is None:
            shape = windows.shape[1], *self._shape
            self._sums = jnp.zeros(shape, jnp.float32, device=windows.sharding)
        place = np.array(at, np.int32)
        self._sums = add_window(self._sums, windows, number, place)

    def finish(self) -> Iterator[Slab]:
        """Yield the slabs that are left, after the last window."""
        yield from self._finish(self.images.shape[1])
        self._sums = None

    def _finish(self, end: int) -> Iterator[Slab]:
        """Yield the planes before `end`, and let the sums begin there."""
        if end == self._start:
            return
        assert self._sums is not None
        depth = self._sums.shape[1]
        planes = min(SLAB_PLANES, depth)
        z, y, x = self._place
        last = min(end, z.stop)
        for first in range(max(self._start, z.start), last, planes):
            # All slabs have one size, so that one program computes them.
            offset = first - self._start
            begin = min(offset, depth - planes)
            found = finish_planes(self._sums, begin, planes=planes, by_class=self._by_class)
            found.copy_to_host_async()
            wanted = slice(offset - begin, offset - begin + min(planes, last - first))
            yield Slab(found, (wanted, y, x))
        self._sums = drop_planes(self._sums, end - self._start)
        self._start = end
