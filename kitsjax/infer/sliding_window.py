"""The sliding window: window positions, importance, buckets of shapes, and the sum over windows.

`sum_windows` is a pure function for jit, grad, vmap and export: windows are computed and summed
where the image lies. Parameters have a leading axis of ensemble members, over which probabilities
are averaged.
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num

from kitsjax.labels import CLASSES
from kitsjax.model.arrays import Params
from kitsjax.settings import PredictSettings
from kitsjax.types import Shape

Count = Any
"""An int, or a JAX integer whose value is not known yet."""


def window_positions(shape: Shape, patch_shape: Shape, step: float) -> Int[np.ndarray, "n 3"]:
    """First voxels of the windows that cover a volume exactly, x fastest.

    nnU-Net's rule: an axis gets the fewest windows whose stride is at most step * patch, spread
    evenly from its first to its last voxel. Here with size 11, patch 4, step 0.5:

        voxels    0 1 2 3 4 5 6 7 8 9 10
        windows   # # # #                    at 0
                      # # # #                at 2  (7/4 = 1.75, rounded)
                          # # # #            at 4  (3.5, to even)
                            # # # #          at 5  (5.25)
                                  (...)      at 7 = 11 - 4

    Args:
        shape: volume (z, y, x), voxels; every axis at least the patch's.
        patch_shape: window (z, y, x), voxels.
        step: stride over patch edge, in (0, 1]; a stride below one voxel is one voxel.
    """
    axes = [_axis_positions(*sizes, step) for sizes in zip(shape, patch_shape, strict=True)]
    return np.array(list(itertools.product(*axes)), dtype=np.int32)


def _axis_positions(size: int, patch: int, step: float) -> list[int]:
    if size < patch:
        raise ValueError(f"an axis of {size} voxels is smaller than the patch's {patch}: pad first")
    count = window_count(size - patch, patch, step)
    return [window_start(index, size - patch, count) for index in range(count)]


def window_count(room: Count, patch: int, step: float) -> Count:
    """Number of windows on an axis that leaves `room` voxels beside the patch.

    Of an integer or of a traced one, as is `window_start`: in integers alone, so that programs in
    which the shape is not known beforehand place the same windows.
    """
    stride = Fraction(max(1.0, patch * step)).limit_denominator(1000)
    return -(-room * stride.denominator // stride.numerator) + 1


def window_start(index: Count, room: Count, count: Count) -> Count:
    """First voxel of window `index` of `count` on an axis: index * room / (count - 1), rounded.

    Halves go to even.
    """
    # A single window stands at 0 whatever it is divided by.
    double = 2 * (count - 1 + (count == 1))
    up, rest = divmod(2 * index * room + double // 2, double)
    return up - (rest == 0) * (up % 2)


def importance_map(
    patch_shape: Shape, weighting: Literal["gaussian", "uniform"]
) -> Float[np.ndarray, "z y x"]:
    """Weight of each voxel of a window, float32, in (0, 1], at most 1 and symmetric.

    `gaussian` has sigma = patch / 8 an axis, as nnU-Net's; it's evaluated, not filtered, about the
    window's true center, so that it is mirror-symmetric and never 0: a corner has exp(-24).
    """
    if weighting == "uniform":
        return np.ones(patch_shape, np.float32)
    z, y, x = (_gaussian(edge) for edge in patch_shape)
    weights = z[:, None, None] * y[:, None] * x
    return (weights / weights.max()).astype(np.float32)


def _gaussian(edge: int) -> Float[np.ndarray, " edge"]:
    distance = np.arange(edge) - (edge - 1) / 2
    return np.exp(-0.5 * (distance / (edge / 8)) ** 2)


def bucket_shape(shape: Sequence[int], patch_shape: Shape, bucket: int) -> Shape:
    """Least shape in multiples of `bucket` that holds both the volume and a patch.

    One program is compiled a bucket: at 64, CTs of 0.8 x 0.8 x 3 mm and 512 x 512 x 300 voxels,
    452 x 206 x 206 on the 1.99 mm grid, share 512 x 256 x 256 with all of similar size.
    """
    z, y, x = (
        math.ceil(max(size, patch) / bucket) * bucket
        for size, patch in zip(shape, patch_shape, strict=True)
    )
    return z, y, x


def place_volume(shape: Sequence[int], patch_shape: Shape) -> tuple[slice, slice, slice]:
    """Where a volume lies in its bucket: from the first voxel on, or amid a patch that is larger.

    On an axis that is smaller than the patch, the odd voxel of padding goes after the volume.
    """
    starts = (max(0, patch - size) // 2 for size, patch in zip(shape, patch_shape, strict=True))
    z, y, x = (slice(start, start + size) for start, size in zip(starts, shape, strict=True))
    return z, y, x


def sum_windows(
    network: nn.Module,
    members: Params,
    image: Num[Array | np.ndarray, "Z Y X"],
    extent: tuple[Count, Count, Count],
    importance: Float[Array | np.ndarray, "z y x"],
    settings: PredictSettings,
) -> Float[Array, "k Z Y X"]:
    """Probabilities times importance, summed over the windows; 0 where no window comes.

    Their sum over the classes is the sum of importances, as softmax sums to 1. Classes stand
    first: as the last axis, four of them would be padded to 128 on a TPU.

    Args:
        members: parameters, each with a leading axis of members.
        extent: (z, y, x) of the part, from the image's first voxel on, that windows cover; each
            axis at least the window's. Known or traced; only with a known one is it differentiable.
        importance: weight of each voxel of a window, whose shape it gives.
    """
    shape = importance.shape
    room = [size - edge for size, edge in zip(extent, shape, strict=True)]
    counts = [
        window_count(r, edge, settings.step_size) for r, edge in zip(room, shape, strict=True)
    ]
    count = counts[0] * counts[1] * counts[2]
    batch_size = windows_at_a_time(settings, jax.default_backend())

    # Recomputed for a gradient: what a network keeps of one window is more than the whole image.
    @jax.checkpoint
    def compute(members: Params, patches: Float[Array, "b z y x"]) -> Float[Array, "b k z y x"]:
        return _window_probabilities(network, members, patches, settings.mirror)

    def add_batch(batch: Int[Array, ""], sums: Float[Array, "k Z Y X"]) -> Float[Array, "k Z Y X"]:
        numbers = [batch * batch_size + n for n in range(batch_size)]
        starts = [_window_corner(number, room, counts) for number in numbers]
        patches = jnp.stack([lax.dynamic_slice(image, start, shape) for start in starts])
        windows = compute(members, patches.astype(jnp.float32))
        for number, start, window in zip(numbers, starts, windows, strict=True):
            # The last batch is filled up with windows that don't count.
            weights = jnp.where(number < count, importance, 0)
            corner = (0, *start)
            before = lax.dynamic_slice(sums, corner, window.shape)
            sums = lax.dynamic_update_slice(sums, before + weights * window, corner)
        return sums

    batches = -(-count // batch_size)
    sums = jnp.zeros((len(CLASSES), *image.shape), jnp.float32)
    return lax.fori_loop(0, batches, add_batch, sums)


def windows_at_a_time(settings: PredictSettings, platform: str) -> int:
    """`predict.batch_size`, or what is best on a platform ("cpu", "gpu", "tpu") if that is 0."""
    # Only a GPU gains by two: a TPU's compiler copies the planes of several windows together first,
    # half as many bytes again a window (benchmarks/README.md).
    return settings.batch_size or (2 if platform == "gpu" else 1)


def normalize_sums(sums: Float[Array, "k Z Y X"]) -> Float[Array, "k Z Y X"]:
    """Probabilities from `sum_windows`; 0 where no window came."""
    return sums / jnp.maximum(sums.sum(0), jnp.finfo(jnp.float32).tiny)


def _window_corner(
    number: Int[Array, ""], room: list[Count], counts: list[Count]
) -> tuple[Array, Array, Array]:
    """First voxel of window `number`, x fastest; of a number past the last, any within reach."""
    rest, x = divmod(number, counts[2])
    z, y = divmod(rest, counts[1])
    corner = [
        jnp.minimum(window_start(index, axis_room, axis_count), axis_room)
        for index, axis_room, axis_count in zip((z, y, x), room, counts, strict=True)
    ]
    return corner[0], corner[1], corner[2]


def _window_probabilities(
    network: nn.Module, members: Params, patches: Float[Array, "b z y x"], mirror: bool
) -> Float[Array, "b k z y x"]:
    """Mean softmax over members and mirrorings; scanned, so that the network compiles once."""
    flips = jnp.array(list(itertools.product((False, True), repeat=3)) if mirror else [[False] * 3])
    number = jax.tree.leaves(members)[0].shape[0]

    def add_member(sums: Array, params: Params) -> tuple[Array, None]:
        def add_mirroring(sums: Array, flip: Bool[Array, " 3"]) -> tuple[Array, None]:
            logits = network.apply({"params": params}, _flip(patches, flip)[..., None])[0]
            logits = jnp.moveaxis(logits.astype(jnp.float32), -1, 1)
            return sums + _flip(jax.nn.softmax(logits, axis=1), flip), None

        return lax.scan(add_mirroring, sums, flips)[0], None

    zeros = jnp.zeros((len(patches), len(CLASSES), *patches.shape[1:]), jnp.float32)
    sums, _ = lax.scan(add_member, zeros, members)
    return sums / (number * len(flips))


def _flip(array: Float[Array, "*b z y x"], flip: Bool[Array, " 3"]) -> Float[Array, "*b z y x"]:
    for axis in range(3):
        array = jnp.where(flip[axis], jnp.flip(array, axis - 3), array)
    return array
