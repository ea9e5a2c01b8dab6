"""The sliding window (V1) as a pure function: for jit, grad, vmap and export.

Windows are computed and summed where the image lies. Parameters have a leading axis of members,
over which probabilities are averaged.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num

from kitsjax.infer.tiles import Count, window_count, window_start
from kitsjax.labels import CLASSES
from kitsjax.settings import PredictSettings

Params = Mapping[str, Any]
"""Nested dictionaries of arrays: what Linen keeps under "params"."""


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
    counts = [window_count(r, edge, settings.step) for r, edge in zip(room, shape, strict=True)]
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
    # half as many bytes again a window (benchmarks.md).
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
