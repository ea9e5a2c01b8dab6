"""Whole-volume prediction: class probabilities of an image, a label map of a CT (V1, R1)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, Float, Num, UInt8

from kitsjax.data.preprocess import preprocess
from kitsjax.image.resample import resample_label
from kitsjax.image.volume import Volume
from kitsjax.infer import sliding_window
from kitsjax.infer.sliding_window import normalize_sums, sum_windows
from kitsjax.infer.trained_model import Ensemble, Model, Models, stack_models
from kitsjax.settings import PredictSettings
from kitsjax.types import Shape

# A program for each shape, through which gradients pass, and one for all shapes of a bucket, in
# which the number of windows is found at run time.
_sum_known = jax.jit(sum_windows, static_argnames=("network", "extent", "settings"))
_sum_any = jax.jit(sum_windows, static_argnames=("network", "settings"))


def probabilities(
    model: Models, image: Num[Array | np.ndarray, "z y x"], *, mirror: bool | None = None
) -> Float[Array, "k z y x"]:
    """Class probabilities of a preprocessed image, summing to 1 over the classes.

    The mean over windows (by importance), over the eight mirrorings if `mirror`, and over the
    models. A pure function: under `jax.jit` it is compiled once for each shape; `jax.grad` goes
    through it to the image and to the model's parameters, one batch of windows at a time;
    `jax.vmap` maps it over a model whose parameters are stacked, for the probabilities of each
    member: for their mean alone, a list of models is quicker.

    Args:
        model: of `load_model`, or several of them.
        image: as `preprocess` makes it; any shape from one voxel up.
        mirror: None: as the model's settings say.

    Returns:
        float32, classes first: background, kidney, tumor, cyst.

    Raises:
        InputError: the models differ in network, patch shape or preprocessing.
    """
    is_image = not isinstance(image, Volume) and np.ndim(image) == 3
    if not (is_image and jnp.issubdtype(image.dtype, jnp.floating)):
        raise TypeError("an image is (z, y, x) of a float type, as preprocess makes it of a volume")
    first, members = stack_models(model)
    settings = _choose(first, mirror)
    padded = _pad(image, first.patch_shape, 1)
    importance = sliding_window.importance_map(first.patch_shape, settings.weighting)
    sums = _sum_known(first.network, members, padded, padded.shape, importance, settings=settings)
    return normalize_sums(sums)[:, *sliding_window.place_volume(image.shape, first.patch_shape)]


def segment(model: Models, volume: Volume, *, mirror: bool | None = None) -> Volume:
    """Label map of a CT in HU, on the CT's own grid.

    Compiled once for CTs of about the same size (`predict.bucket`).

    Args:
        model: of `load_model`, or several of them, whose probabilities are averaged.
        volume: of `read_volume` or `make_volume`.
        mirror: average over the eight mirrorings, at eight times the cost; None: as the model's
            settings say.

    Returns:
        Labels, uint8 (see `kitsjax.labels.CLASSES`), with the CT's shape, spacing, affine and file
        layout, fit for `write_volume`.

    Raises:
        InputError: the models differ in network, patch shape or preprocessing.
    """
    if not isinstance(volume, Volume):
        raise TypeError("segment takes a volume: of read_volume, or make_volume(array, spacing_mm)")
    ensemble = stack_models(model)
    image = preprocess(volume, ensemble.model.preprocess)
    label = predict_label(ensemble, image, _choose(ensemble.model, mirror))
    native = resample_label(label, volume.array.shape)
    return Volume(native, volume.grid)


def predict_label(
    ensemble: Ensemble, image: Num[np.ndarray, "z y x"], settings: PredictSettings
) -> UInt8[np.ndarray, "z y x"]:
    """The most probable class of each voxel; of equally probable ones the lowest value.

    By a program that all shapes of a bucket share. Only the label map leaves the device.
    """
    sums = _sum_bucket(ensemble, image, settings)
    return np.asarray(_most_probable(sums))[_inside(ensemble, image)]


def predict_probabilities(
    ensemble: Ensemble, image: Num[np.ndarray, "z y x"], settings: PredictSettings
) -> Float[np.ndarray, "k z y x"]:
    """As `probabilities`, by the program of `predict_label`, of which it is the argument."""
    sums = _sum_bucket(ensemble, image, settings)
    return np.asarray(_normalize(sums))[:, *_inside(ensemble, image)]


def _sum_bucket(
    ensemble: Ensemble, image: np.ndarray, settings: PredictSettings
) -> Float[Array, "k Z Y X"]:
    """Sums over windows, in the shape of the image's bucket.

    The windows keep to the image's own extent, or to the patch's where that is larger, and so
    never see what fills the bucket.
    """
    model = ensemble.model
    z, y, x = sliding_window.bucket_shape(image.shape, model.patch_shape, 1)
    extent = np.int32(z), np.int32(y), np.int32(x)
    padded = _pad(image, model.patch_shape, settings.bucket)
    importance = sliding_window.importance_map(model.patch_shape, settings.weighting)
    return _sum_any(model.network, ensemble.members, padded, extent, importance, settings=settings)


def lower_prediction(
    ensemble: Ensemble, shape: Shape, settings: PredictSettings, device: jax.Device
) -> Any:
    """The program of `predict_label` before its compilation, for a device that need not be here.

    Args:
        ensemble: parameters or their shapes, each with the axis of members.
        shape: (z, y, x) of the preprocessed image.
    """
    there = SingleDeviceSharding(device)

    def place(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=there)

    model = ensemble.model
    bucket = sliding_window.bucket_shape(shape, model.patch_shape, settings.bucket)
    image = place(jax.ShapeDtypeStruct(bucket, model.preprocess.dtype))
    edge = place(jax.ShapeDtypeStruct((), np.int32))
    importance = place(sliding_window.importance_map(model.patch_shape, settings.weighting))
    members = jax.tree.map(place, ensemble.members)
    return _sum_any.lower(
        model.network, members, image, (edge, edge, edge), importance, settings=settings
    )


def _choose(model: Model, mirror: bool | None) -> PredictSettings:
    return model.predict if mirror is None else model.predict.model_copy(update={"mirror": mirror})


def _pad(
    image: Num[Array | np.ndarray, "z y x"], patch_shape: Shape, bucket: int
) -> Num[Array | np.ndarray, "Z Y X"]:
    """The image in its bucket, among zeros: the mean of a normalized image."""
    shape = sliding_window.bucket_shape(image.shape, patch_shape, bucket)
    inside = sliding_window.place_volume(image.shape, patch_shape)
    widths = [(part.start, size - part.stop) for part, size in zip(inside, shape, strict=True)]
    return jnp.pad(image, widths) if isinstance(image, jax.Array) else np.pad(image, widths)


def _inside(ensemble: Ensemble, image: np.ndarray) -> tuple[slice, slice, slice]:
    return sliding_window.place_volume(image.shape, ensemble.model.patch_shape)


_normalize = jax.jit(normalize_sums)


@jax.jit
def _most_probable(sums: Float[Array, "k Z Y X"]) -> UInt8[Array, "Z Y X"]:
    return normalize_sums(sums).argmax(0).astype(jnp.uint8)
