"""The sliding window: where windows lie, what their voxels weigh, and the weighted sum over them.

A volume is first padded to its bucket, a shape that many volumes share (`pad_volume`). Then
`sum_windows` adds the probabilities of all windows on the device: it is a pure function for jit,
grad, vmap and export, and it averages over ensemble members.
"""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import core, lax
from jaxtyping import Array, Float, Int, Num, UInt8

from kitsjax.infer.window_probabilities import window_probabilities
from kitsjax.labels import LabelScheme
from kitsjax.model.arrays import Params
from kitsjax.settings import PredictSettings
from kitsjax.types import Box, Shape

IntOrTraced = Any
"""An int; or, in a function compiled for all shapes, a traced JAX integer or a symbolic size."""


def window_positions(shape: Shape, patch_shape: Shape, step_size: float) -> Int[np.ndarray, "n 3"]:
    """List the first voxels of the windows that cover a volume exactly, x fastest.

    nnU-Net's rule: an axis gets the fewest windows whose stride is at most step_size * patch,
    spread evenly from its first to its last voxel. Here with size 11, patch 4, step size 0.5:

        voxels    0 1 2 3 4 5 6 7 8 9 10
        windows   # # # #                    at 0
                      # # # #                at 2  (7/4 = 1.75, rounded)
                          # # # #            at 4  (3.5, to even)
                            # # # #          at 5  (5.25)
                                  (...)      at 7 = 11 - 4

    Args:
        shape: volume (z, y, x), voxels; every axis at least the patch's.
        patch_shape: window (z, y, x), voxels.
        step_size: stride over patch edge, in (0, 1]; a stride below one voxel is one voxel.
    """
    axes = [_axis_positions(*sizes, step_size) for sizes in zip(shape, patch_shape, strict=True)]
    return np.array(list(itertools.product(*axes)), dtype=np.int32)


def _axis_positions(size: int, patch: int, step_size: float) -> list[int]:
    if size < patch:
        raise ValueError(f"an axis of {size} voxels is smaller than the patch's {patch}: pad first")
    count = window_count(size - patch, patch, step_size)
    return [window_start(index, size - patch, count) for index in range(count)]


def window_count(last_start: IntOrTraced, patch: int, step_size: float) -> IntOrTraced:
    """Count the windows on an axis whose last window starts at voxel `last_start`.

    Like `window_start` it computes with integers alone, so that a function compiled for all shapes
    places the same windows.
    """
    stride = Fraction(max(1.0, patch * step_size)).limit_denominator(1000)
    # ceil(last_start / stride) strides, and one window more than strides.
    return -(-last_start * stride.denominator // stride.numerator) + 1


def window_start(index: IntOrTraced, last_start: IntOrTraced, count: IntOrTraced) -> IntOrTraced:
    """Compute the first voxel of window `index` of `count` windows on an axis.

    That is index * last_start / (count - 1), rounded to the nearest integer, halves to even.
    """
    # A single window starts at 0; adding 1 // count avoids the division by zero for it.
    strides = count - 1 + 1 // count
    # floor(start + 1/2) and ceil(start - 1/2) differ only at a half, where one of them is odd.
    double = 2 * index * last_start
    up = (double + strides) // (2 * strides)
    down = -((strides - double) // (2 * strides))
    return up - (up - down) * (up % 2)


def importance_map(
    patch_shape: Shape, weighting: Literal["gaussian", "uniform"]
) -> Float[np.ndarray, "z y x"]:
    """Compute the weight of each voxel of a window: float32, in (0, 1], symmetric.

    A "gaussian" has sigma = patch / 8 on each axis, as in nnU-Net. It is evaluated about the
    window's true center, not filtered, so it is symmetric and never 0: a corner has exp(-24).
    """
    if weighting == "uniform":
        return np.ones(patch_shape, np.float32)
    z, y, x = (_gaussian(edge) for edge in patch_shape)
    weights = z[:, None, None] * y[None, :, None] * x[None, None, :]
    return (weights / weights.max()).astype(np.float32)


def _gaussian(edge: int) -> Float[np.ndarray, " edge"]:
    distance = np.arange(edge) - (edge - 1) / 2
    return np.exp(-0.5 * (distance / (edge / 8)) ** 2)


def bucket_shape(
    shape: Sequence[IntOrTraced], patch_shape: Shape, bucket: int
) -> tuple[IntOrTraced, IntOrTraced, IntOrTraced]:
    """Compute the least shape in multiples of `bucket` that holds both the volume and a patch.

    The functions that add up windows are compiled once for each number of rows and columns. With a
    bucket of 64 voxels, CTs of 512 x 512 x 300 voxels of 0.8 x 0.8 x 3 mm, which are
    452 x 206 x 206 on the 1.99 mm grid, share 256 x 256 with all CTs of similar size.
    """
    z, y, x = (
        -(-(size + _missing(size, patch)) // bucket) * bucket
        for size, patch in zip(shape, patch_shape, strict=True)
    )
    return z, y, x


def _missing(size: IntOrTraced, patch: int) -> IntOrTraced:
    """Count the voxels that an axis lacks to hold a patch."""
    return core.max_dim(patch - size, 0)


def place_volume(shape: Sequence[IntOrTraced], patch_shape: Shape) -> Box:
    """Find the slices of a volume in its padded bucket.

    It lies at the origin, or centered where the patch is larger; an odd voxel of padding is last.
    """
    starts = (_missing(size, patch) // 2 for size, patch in zip(shape, patch_shape, strict=True))
    z, y, x = (slice(start, start + size) for start, size in zip(starts, shape, strict=True))
    return z, y, x


def pad_volume(
    image: Num[Array | np.ndarray, "*i z y x"], patch_shape: Shape, bucket: int = 1
) -> Num[Array | np.ndarray, "*i Z Y X"]:
    """Pad an image, or several, to its bucket with zeros, the mean of a normalized image."""
    own = image.shape[-3:]
    shape, place = bucket_shape(own, patch_shape, bucket), place_volume(own, patch_shape)
    widths = [(part.start, size - part.stop) for part, size in zip(place, shape, strict=True)]
    widths = [(0, 0)] * (image.ndim - 3) + widths
    if isinstance(image, np.ndarray) and not np.any(widths):
        return image
    return jnp.pad(image, widths) if isinstance(image, jax.Array) else np.pad(image, widths)


def sum_windows(
    network: nn.Module,
    params: Params,
    image: Num[Array | np.ndarray, "Z Y X"],
    valid_shape: tuple[IntOrTraced, IntOrTraced, IntOrTraced],
    importance: Float[Array | np.ndarray, "z y x"],
    settings: PredictSettings,
    scheme: LabelScheme,
) -> Float[Array, "k Z Y X"]:
    """Sum probabilities times importance over all windows; the sum is 0 where no window lies.

    Summed over the classes it is the sum of importances, as they sum to 1. The classes are the
    first axis: as the last one, a few of them would be padded to 128 on a TPU.

    Args:
        network: maps windows (b, z, y, x, 1) to a tuple of logits, the finest first.
        params: stacked parameters: each leaf has a leading axis of ensemble members.
        image: normalized intensities, padded by `pad_volume`.
        valid_shape: (z, y, x) of the part that windows cover, from the image's first voxel on, each
            axis at least the patch's. The sum is differentiable only if its values are known.
        importance: weight of each voxel of a window, whose shape it has.
        settings: step size, mirroring and batch size.
        scheme: the background and its labels are the classes.
    """
    patch_shape = importance.shape
    last_starts = [size - edge for size, edge in zip(valid_shape, patch_shape, strict=True)]
    counts = [
        window_count(last_start, edge, settings.step_size)
        for last_start, edge in zip(last_starts, patch_shape, strict=True)
    ]
    count = counts[0] * counts[1] * counts[2]
    batch_size = windows_at_a_time(settings, jax.default_backend())

    # Rematerialize: the activations of one window take more memory than the whole image.
    @jax.checkpoint
    def predict(params: Params, patches: Float[Array, "b z y x"]) -> Float[Array, "b k z y x"]:
        return window_probabilities(network, params, patches[:, None], settings.mirror, scheme)

    def add_batch(batch: Int[Array, ""], sums: Float[Array, "k Z Y X"]) -> Float[Array, "k Z Y X"]:
        numbers = [batch * batch_size + n for n in range(batch_size)]
        starts = [_window_corner(number, last_starts, counts) for number in numbers]
        patches = jnp.stack([lax.dynamic_slice(image, start, patch_shape) for start in starts])
        windows = predict(params, patches.astype(jnp.float32))
        for number, start, window in zip(numbers, starts, windows, strict=True):
            # The last batch is filled up with windows that don't count.
            weights = jnp.where(number < count, importance, 0)
            corner = (0, *start)
            before = lax.dynamic_slice(sums, corner, window.shape)
            sums = lax.dynamic_update_slice(sums, before + weights[None] * window, corner)
        return sums

    batches = -(-count // batch_size)
    sums = jnp.zeros((len(scheme.names), *image.shape), jnp.float32)
    return lax.fori_loop(0, batches, add_batch, sums)


def windows_at_a_time(settings: PredictSettings, platform: str) -> int:
    """Return `predict.batch_size`; if that is 0, the best for the platform (cpu, gpu or tpu)."""
    # Only a GPU gains by two: a TPU's compiler copies the planes of several windows together first,
    # half as many bytes again a window (benchmarks/README.md).
    return settings.batch_size or (2 if platform == "gpu" else 1)


def normalize_sums(sums: Float[Array, "k Z Y X"]) -> Float[Array, "k Z Y X"]:
    """Divide what `sum_windows` returns by its sum over the classes; 0 where no window lies."""
    return sums / jnp.maximum(sums.sum(0, keepdims=True), jnp.finfo(jnp.float32).tiny)


def most_probable(sums: Float[Array, "k Z Y X"]) -> UInt8[Array, "Z Y X"]:
    """Find the most probable class of each voxel; of equally probable ones the lowest value."""
    return normalize_sums(sums).argmax(0).astype(jnp.uint8)


def _window_corner(
    number: Int[Array, ""], last_starts: list[IntOrTraced], counts: list[IntOrTraced]
) -> list[IntOrTraced]:
    """Compute the first voxel of window `number`, x fastest; past the last, any valid corner."""
    rest, x = divmod(number, counts[2])
    z, y = divmod(rest, counts[1])
    return [
        jnp.minimum(window_start(index, last_start, count), last_start)
        for index, last_start, count in zip((z, y, x), last_starts, counts, strict=True)
    ]
