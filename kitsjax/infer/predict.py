"""Whole-volume prediction by sliding window (V1), brought back to the native grid (R1).

The volume is uploaded once, windows are computed and summed on the device, and only the finished
label map comes back. A program is compiled for each bucket of volume shapes, not for each shape.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num, UInt8
from tqdm import tqdm

from kitsjax.config import PredictSettings
from kitsjax.data.geometry import FileGeometry, Volume
from kitsjax.data.kits import IMAGE_NAME
from kitsjax.data.patches import Shape
from kitsjax.data.preprocess import prepare_image
from kitsjax.data.resample import resample_label
from kitsjax.data.volume import read_volume, write_label, write_volume
from kitsjax.errors import InputError
from kitsjax.infer import tiles
from kitsjax.infer.bundle import Model, Params
from kitsjax.labels import CLASSES

Item = TypeVar("Item")
Result = TypeVar("Result")


def predict_probabilities(
    model: Model, image: Num[np.ndarray, "z y x"], settings: PredictSettings | None = None
) -> Float[np.ndarray, "k z y x"]:
    """Class probabilities of a preprocessed image, float32, summing to 1 over the classes.

    The mean over windows (by importance), over the eight mirrorings if `settings.mirror`, and
    over the ensemble.

    Args:
        image: as `prepare_image` makes it; any shape from one voxel up.
        settings: how to predict; None: as the model's settings say.
    """
    sums = _sum_windows(model, image, settings or model.predict)
    return np.asarray(_normalize(sums))[:, *tiles.place_volume(image.shape, model.patch_shape)]


def predict_label(
    model: Model, image: Num[np.ndarray, "z y x"], settings: PredictSettings | None = None
) -> UInt8[np.ndarray, "z y x"]:
    """The most probable class of each voxel; of equally probable ones the lowest value.

    Arguments as of `predict_probabilities`.
    """
    sums = _sum_windows(model, image, settings or model.predict)
    return np.asarray(_most_probable(sums))[tiles.place_volume(image.shape, model.patch_shape)]


def segment(
    model: Model, volume: Volume, settings: PredictSettings | None = None
) -> UInt8[np.ndarray, "z y x"]:
    """Label map of a CT in HU, of the volume's own shape.

    Args:
        settings: how to predict; None: as the model's settings say.
    """
    label = predict_label(model, prepare_image(volume, model.preprocess), settings)
    return resample_label(label, volume.shape)


def predict_files(
    model: Model,
    files: Sequence[tuple[Path, Path]],
    settings: PredictSettings | None = None,
    probabilities: bool = False,
) -> list[tuple[Path, str]]:
    """Segment files one after another, the next being read meanwhile, with a progress bar.

    Masks are uint8 NIfTI with their input's exact geometry. An existing output is replaced once
    its successor is whole.

    Args:
        files: (CT, mask to write), as of `find_inputs`.
        settings: how to predict; None: as the model's settings say.
        probabilities: also write `<name>_probabilities.nii.gz` beside the mask: float32, 4-D with
            the classes last, on the native grid by nearest neighbor, so that its argmax is the
            mask. They take 16 bytes a native voxel in memory.

    Returns:
        (input, message) of every file that failed; the others were written.
    """
    failures = []
    cases = _ahead(partial(_prepare, model), (source for source, _ in files))
    pairs = zip(files, cases, strict=True)
    for (source, target), case in tqdm(pairs, "predict", len(files), unit="case"):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _predict_case(model, case.result(), target, settings, probabilities)
        except InputError as error:
            failures.append((source, str(error)))
        except (OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            reason = next(iter(str(error).splitlines()), "out of memory")
            failures.append((source, f"{source}: cannot be predicted here ({reason})"))
    return failures


def find_inputs(path: str | Path, folder: str | Path) -> list[tuple[Path, Path]]:
    """The CTs at a path, sorted, each with the mask of `folder` that it is to become.

    Args:
        path: a .nii or .nii.gz file; a KiTS case (a folder with imaging.nii.gz, whose name the
            mask takes); or a folder of these.

    Raises:
        InputError: nothing there, or two inputs of one output, or an output that is an input.
    """
    path, folder = Path(path), Path(folder)
    sources = [path] if path.is_file() else _list_folder(path)
    if not sources:
        raise InputError(
            f"{path}: no CT there; give a .nii or .nii.gz file, a folder of them, or a KiTS folder"
        )
    inputs = {source.resolve() for source in sources}
    targets: dict[Path, Path] = {}
    for source in sources:
        target = folder / f"{_output_name(source)}.nii.gz"
        if target in targets:
            raise InputError(
                f"{source} and {targets[target]} would both be written to {target}: rename one"
            )
        if target.resolve() in inputs:
            raise InputError(
                f"{target}: the mask of {source} would replace an input; choose another output "
                "folder"
            )
        targets[target] = source
    return [(source, target) for target, source in targets.items()]


def _list_folder(folder: Path) -> list[Path]:
    if (folder / IMAGE_NAME).is_file():
        return [folder / IMAGE_NAME]
    files = [path for path in folder.glob("[!.]*") if path.name.endswith((".nii", ".nii.gz"))]
    return sorted([*files, *folder.glob(f"*/{IMAGE_NAME}")])


def _output_name(source: Path) -> str:
    if source.name == IMAGE_NAME:
        # Not resolved: the file itself may be a link into a store.
        return Path(os.path.abspath(source)).parent.name
    return source.name.removesuffix(".gz").removesuffix(".nii")


class _Case(NamedTuple):
    """What prediction needs of a file, without its native voxels."""

    image: np.ndarray
    native_shape: Shape
    geometry: FileGeometry


def _prepare(model: Model, source: Path) -> _Case:
    volume = read_volume(source)
    image = prepare_image(volume, model.preprocess)
    assert volume.file is not None
    return _Case(image, volume.shape, volume.file)


def _predict_case(
    model: Model, case: _Case, target: Path, settings: PredictSettings | None, probabilities: bool
) -> None:
    if not probabilities:
        label = predict_label(model, case.image, settings)
    else:
        by_class = predict_probabilities(model, case.image, settings)
        label = by_class.argmax(0).astype(np.uint8)
        native = np.empty((len(CLASSES), *case.native_shape), np.float32)
        for working, out in zip(by_class, native, strict=True):
            out[:] = resample_label(working, case.native_shape)
        name = f"{target.name.removesuffix('.gz').removesuffix('.nii')}_probabilities.nii.gz"
        write_volume(target.with_name(name), np.moveaxis(native, 0, -1), case.geometry)
    write_label(target, resample_label(label, case.native_shape), case.geometry)


def _ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Future[Result]]:
    """The finished or running `function(item)` of each item, one of them ahead of the consumer."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        futures: deque[Future[Result]] = deque()
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > 1:
                yield futures.popleft()
        yield from futures


def _sum_windows(
    model: Model, image: np.ndarray, settings: PredictSettings
) -> Float[Array, "k Z Y X"]:
    """Probabilities times importance, summed over the windows, in the shape of the bucket."""
    patch_shape = model.patch_shape
    bucket = tiles.bucket_shape(image.shape, patch_shape, settings.bucket)
    # 0 is the mean of a normalized image. The windows keep to the volume's own extent, or to the
    # patch's where that is larger, and so never see what fills the bucket.
    padded = np.zeros(bucket, image.dtype)
    padded[tiles.place_volume(image.shape, patch_shape)] = image
    extent = tiles.bucket_shape(image.shape, patch_shape, 1)
    positions = tiles.window_positions(extent, patch_shape, settings.step)
    most = len(tiles.window_positions(bucket, patch_shape, settings.step))
    capacity = -(-most // settings.batch_size) * settings.batch_size
    return _sweep(
        model.network,
        model.params,
        padded,
        np.pad(positions, ((0, capacity - len(positions)), (0, 0))),
        np.int32(len(positions)),
        tiles.importance_map(patch_shape, settings.weighting),
        batch_size=settings.batch_size,
        mirror=settings.mirror,
    )


@partial(jax.jit, static_argnames=("network", "batch_size", "mirror"))
def _sweep(
    network: nn.Module,
    params: Params,
    image: Num[Array, "Z Y X"],
    positions: Int[Array, "capacity 3"],
    count: Int[Array, ""],
    importance: Float[Array, "z y x"],
    *,
    batch_size: int,
    mirror: bool,
) -> Float[Array, "k Z Y X"]:
    """Compute the first `count` windows, a dynamic number, `batch_size` at a time.

    Classes stand first: as the last axis, four of them would be padded to 128 on a TPU.
    """
    patch_shape = importance.shape

    def add_batch(index: Int[Array, ""], sums: Float[Array, "k Z Y X"]) -> Float[Array, "k Z Y X"]:
        first = index * batch_size
        starts = lax.dynamic_slice_in_dim(positions, first, batch_size)
        patches = jnp.stack([lax.dynamic_slice(image, start, patch_shape) for start in starts])
        windows = _window_probabilities(network, params, patches.astype(jnp.float32), mirror)
        for number, (start, window) in enumerate(zip(starts, windows, strict=True)):
            # The last batch is filled up with windows that don't count.
            weights = jnp.where(first + number < count, importance, 0)
            corner = (0, *start)
            before = lax.dynamic_slice(sums, corner, window.shape)
            sums = lax.dynamic_update_slice(sums, before + weights * window, corner)
        return sums

    batches = (count + batch_size - 1) // batch_size
    sums = jnp.zeros((len(CLASSES), *image.shape), jnp.float32)
    return lax.fori_loop(0, batches, add_batch, sums)


def _window_probabilities(
    network: nn.Module, params: Params, patches: Float[Array, "b z y x"], mirror: bool
) -> Float[Array, "b k z y x"]:
    """Mean softmax over members and mirrorings; scanned, so that the network compiles once."""
    flips = jnp.array(list(itertools.product((False, True), repeat=3)) if mirror else [[False] * 3])
    members = jax.tree.leaves(params)[0].shape[0]

    def add_member(sums: Array, member: Params) -> tuple[Array, None]:
        def add_mirroring(sums: Array, flip: Bool[Array, " 3"]) -> tuple[Array, None]:
            logits = network.apply({"params": member}, _flip(patches, flip)[..., None])[0]
            logits = jnp.moveaxis(logits.astype(jnp.float32), -1, 1)
            return sums + _flip(jax.nn.softmax(logits, axis=1), flip), None

        return lax.scan(add_mirroring, sums, flips)[0], None

    zeros = jnp.zeros((len(patches), len(CLASSES), *patches.shape[1:]), jnp.float32)
    sums, _ = lax.scan(add_member, zeros, params)
    return sums / (members * len(flips))


def _flip(array: Float[Array, "*b z y x"], flip: Bool[Array, " 3"]) -> Float[Array, "*b z y x"]:
    for axis in range(3):
        array = jnp.where(flip[axis], jnp.flip(array, axis - 3), array)
    return array


@jax.jit
def _normalize(sums: Float[Array, "k Z Y X"]) -> Float[Array, "k Z Y X"]:
    """Divide by the sum of importances, which is the sum over classes, as softmax sums to 1."""
    # No window sees what fills a bucket: 0 there, not NaN.
    return sums / jnp.maximum(sums.sum(0), jnp.finfo(jnp.float32).tiny)


@jax.jit
def _most_probable(sums: Float[Array, "k Z Y X"]) -> UInt8[Array, "Z Y X"]:
    return _normalize(sums).argmax(0).astype(jnp.uint8)
