"""Predict images slab by slab: all devices share the windows of all images.

The windows of one image after the other are one stream, cut into batches of equal size, and each
device computes an equal share of every batch. So the program that holds the network has one shape,
whatever the images' shapes are, and is compiled once. The first device adds the windows up, in the
same order whatever the number of devices is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from kitsjax.infer.slab_sums import Slab, SlabSums
from kitsjax.infer.sliding_window import window_positions, windows_at_a_time
from kitsjax.infer.trained_model import Ensemble
from kitsjax.infer.window_program import put_on_devices
from kitsjax.model.compiling import explain_lack
from kitsjax.settings import PredictSettings

Key = TypeVar("Key")


def predict_slabs(
    ensemble: Ensemble,
    images: Iterable[tuple[Key, np.ndarray]],
    settings: PredictSettings,
    by_class: bool,
) -> Iterator[tuple[Key, Slab | Exception]]:
    """Predict images on all devices of this process, and yield their slabs as they are finished.

    The slabs of an image come from its first plane to its last, and those of one image after those
    of another. The devices compute them while the next ones are prepared; at most two batches of
    windows are under way.

    Args:
        ensemble: the model or models.
        images: pairs of a key and a CT's images (i, z, y, x), one for each of `ensemble.images`.
        settings: step size, weighting, mirroring, batch size and bucket.
        by_class: whether slabs hold probabilities; else labels.

    Yields:
        (key, slab); or (key, exception) as the last of an image that cannot be predicted.
    """
    devices = jax.local_devices()
    predict = put_on_devices(ensemble, settings, devices)
    size = len(devices) * windows_at_a_time(settings, devices[0].platform)
    patch_shape = ensemble.model.patch_shape
    begin = partial(SlabSums, patch_shape=patch_shape, bucket=settings.bucket, by_class=by_class)
    windows = _list_windows(images, begin, settings.step_size)
    before: Any = None
    while batch := list(islice(windows, size)):
        try:
            found = predict(_cut(_whole(batch), size, patch_shape, len(ensemble.images)))
            # The first device gets all windows, and those of the batch before have been added.
            parts = [jax.device_put(part, devices[0]) for part in _device_parts(found)]
        except Exception as error:
            yield from _give_up(batch, error)
            continue
        yield from _add(batch, parts)
        # Else all windows of a CT would take memory at once. An error that comes to light here is
        # raised again where the slabs are read.
        with suppress(Exception):
            jax.block_until_ready(before)
        before = found


def explain_memory(source: object) -> AbstractContextManager[None]:
    """Name a CT, and the settings of prediction that need less, where a device lacks memory."""
    advice = "predict.batch_size=1, a smaller predict.bucket or, on a CPU, run.cpu_devices=1"
    return explain_lack(advice, f"{source}: ")


class _Window(NamedTuple):
    """A window of an image.

    Attributes:
        corner: its first voxel (z, y, x) in the padded image.
        is_last: whether it is the image's last one.
    """

    key: Any
    sums: SlabSums
    corner: Sequence[int]
    is_last: bool


class _Failed(NamedTuple):
    """An image that has no windows, for example since memory is short; it keeps its place."""

    key: Any
    error: Exception


_Batch = Sequence[_Window | _Failed]


def _list_windows(
    images: Iterable[tuple[Any, np.ndarray]],
    begin: Callable[[np.ndarray], SlabSums],
    step_size: float,
) -> Iterator[_Window | _Failed]:
    """List the windows of all images, one image after the other."""
    for key, image in images:
        try:
            sums = begin(image)
            _, z, y, x = sums.images.shape
            corners = window_positions((z, y, x), sums.patch_shape, step_size).tolist()
        except Exception as error:
            yield _Failed(key, error)
            continue
        for number, corner in enumerate(corners, start=1):
            yield _Window(key, sums, corner, number == len(corners))


def _whole(batch: _Batch) -> list[_Window]:
    return [window for window in batch if isinstance(window, _Window)]


def _cut(
    windows: Sequence[_Window], size: int, patch_shape: Sequence[int], images: int
) -> np.ndarray:
    """Cut windows out of their images; a batch that they do not fill is filled up with zeros.

    Args:
        windows: at most `size`.
        size: number of windows of a batch.
        patch_shape: (z, y, x) of a window.
        images: number of images of a CT.
    """
    dtype = np.result_type(*(window.sums.images for window in windows), np.float16)
    patches = np.zeros((size, images, *patch_shape), dtype)
    for patch, (_, sums, corner, _) in zip(patches, windows, strict=False):
        z, y, x = (slice(n, n + edge) for n, edge in zip(corner, patch_shape, strict=True))
        patch[:] = sums.images[:, z, y, x]
    return patches


def _device_parts(batch: jax.Array) -> list[jax.Array]:
    """List the parts of a batch that lie on the devices, in the batch's order."""
    shards = sorted(batch.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [shard.data for shard in shards]


def _add(batch: _Batch, parts: Sequence[jax.Array]) -> Iterator[tuple[Any, Slab | Exception]]:
    """Add the windows of a batch to the sums of their images; yield the slabs that this finishes.

    Args:
        batch: the windows.
        parts: what `predict_windows` returns, in parts of equal size.
    """
    per_part = len(parts[0])
    numbers = count()
    for window in batch:
        if isinstance(window, _Failed):
            yield window.key, window.error
            continue
        sums, number = window.sums, next(numbers)
        if sums.failed:
            continue
        try:
            for slab in sums.add(parts[number // per_part], number % per_part, window.corner):
                yield window.key, slab
            for slab in sums.finish() if window.is_last else ():
                yield window.key, slab
        except Exception as error:
            yield from _give_up([window], error)


def _give_up(batch: _Batch, error: Exception) -> Iterator[tuple[Any, Exception]]:
    """Yield the error for each image that has a window in the batch, once."""
    for window in batch:
        if isinstance(window, _Failed):
            yield window.key, window.error
        elif not window.sums.failed:
            window.sums.failed = True
            yield window.key, error
