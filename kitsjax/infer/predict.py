"""Whole-volume prediction: class probabilities of an image, and the label map of a CT."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, Float, Num, UInt8

from kitsjax.data.preprocess import preprocess
from kitsjax.image.resample import resample_nearest
from kitsjax.image.volume import Grid, Volume
from kitsjax.infer.native_grid import interpolate_label
from kitsjax.infer.remove_detached import remove_detached
from kitsjax.infer.sliding_window import (
    bucket_shape,
    importance_map,
    most_probable,
    normalize_sums,
    pad_volume,
    place_volume,
    sum_windows,
)
from kitsjax.infer.trained_model import Ensemble, Model, Models, stack_models
from kitsjax.settings import PredictSettings
from kitsjax.types import Shape

# Compiled once for each shape; gradients pass through it.
_sum_known_shape = jax.jit(sum_windows, static_argnames=("network", "valid_shape", "settings"))
# Compiled once for all shapes of a bucket: the number of windows is computed at run time.
_sum_any_shape = jax.jit(sum_windows, static_argnames=("network", "settings"))

_normalize = jax.jit(normalize_sums)
_most_probable = jax.jit(most_probable)


def probabilities(
    model: Models, image: Num[Array | np.ndarray, "z y x"], *, mirror: bool | None = None
) -> Float[Array, "k z y x"]:
    """Compute the class probabilities of a preprocessed image.

    They are averaged over windows (by importance), over the eight mirrorings if asked for, and over
    the models. This is a pure function of model and image: `jax.jit` compiles it once for each
    shape; `jax.grad` differentiates it by the image and by the model's parameters, one batch of
    windows at a time; `jax.vmap` maps it over a model with stacked parameters, and gives the
    probabilities of each ensemble member. For their mean alone a list of models is faster.

        image = kj.preprocess(volume, model.preprocess)
        tumor = kj.probabilities(model, image)[2]

    Args:
        model: a model from `load_model`, or a sequence of them.
        image: normalized intensities (z, y, x) of a float type, from `preprocess`; any shape from
            one voxel up.
        mirror: average over the eight mirrorings, at eight times the cost; None: as the first
            model's settings say.

    Returns:
        (class, z, y, x) float32 in [0, 1], on the image's grid; the classes are background, kidney,
        tumor and cyst, and sum to 1.

    Raises:
        TypeError: the image is not a three-dimensional array of a float type, or the model is none.
        InputError: no model, or models that differ in network, patch shape or preprocessing.
    """
    is_image = not isinstance(image, Volume) and np.ndim(image) == 3
    if not (is_image and jnp.issubdtype(image.dtype, jnp.floating)):
        raise TypeError(
            "an image is a float array (z, y, x); make it with preprocess(volume, model.preprocess)"
        )
    first, params = stack_models(model)
    settings = _choose_settings(first, mirror)
    padded = pad_volume(image, first.patch_shape)
    importance = importance_map(first.patch_shape, settings.weighting)
    sums = _sum_known_shape(
        first.network, params, padded, padded.shape, importance, settings=settings
    )
    return normalize_sums(sums)[:, *place_volume(image.shape, first.patch_shape)]


def segment(model: Models, volume: Volume, *, mirror: bool | None = None) -> Volume:
    """Segment a CT: predict the label of each voxel on the CT's own grid.

    The first CT takes longer, as the network is compiled once for all CTs of about the same size
    (`predict.bucket`). The way back to the CT's grid is the first model's `predict.resample`.

        label = kj.segment(kj.load_model("runs/phantom"), kj.read_volume("scan.nii.gz"))

    Args:
        model: a model from `load_model`, or a sequence of them, whose probabilities are averaged.
        volume: CT in HU, from `read_volume` or `make_volume`.
        mirror: average over the eight mirrorings, at eight times the cost; None: as the first
            model's settings say.

    Returns:
        Label map, uint8: 0 background, 1 kidney, 2 tumor, 3 cyst. Its grid is the CT's, so that
        `write_volume` writes a file like the CT's.

    Raises:
        TypeError: the CT is a bare array or a path or not of real numbers, or the model is none.
        InputError: no model, or models that differ in network, patch shape or preprocessing; voxels
            that are not finite; or a spacing so large that it cannot be in mm.
    """
    if not isinstance(volume, Volume):
        raise TypeError(
            "segment takes a volume; make it with read_volume(path) or make_volume(array, "
            "spacing_mm)"
        )
    ensemble = stack_models(model)
    image = preprocess(volume, ensemble.model.preprocess)
    settings = _choose_settings(ensemble.model, mirror)
    return Volume(predict_native(ensemble, image, settings, volume.grid), volume.grid)


def predict_native(
    ensemble: Ensemble,
    image: Num[np.ndarray, "z y x"],
    settings: PredictSettings,
    grid: Grid,
    out: Float[np.ndarray, "k Z Y X"] | None = None,
) -> UInt8[np.ndarray, "Z Y X"]:
    """Predict the label of each voxel of a CT from its preprocessed image.

    Args:
        ensemble: the model or models.
        image: the preprocessed image.
        settings: how to predict; `resample` says how to come back to the CT's grid, and
            `least_kidney_ml` which components are removed there.
        grid: the CT's grid.
        out: gets the class probabilities on the CT's grid, whose argmax is the label map before
            components are removed; None: they are not wanted.
    """
    label = _most_probable_native(ensemble, image, settings, grid.shape, out)
    return remove_detached(label, grid.voxel_mm3, settings.least_kidney_ml)


def _most_probable_native(
    ensemble: Ensemble,
    image: Num[np.ndarray, "z y x"],
    settings: PredictSettings,
    shape: Shape,
    out: Float[np.ndarray, "k Z Y X"] | None,
) -> UInt8[np.ndarray, "Z Y X"]:
    """Predict class probabilities, and take the most probable class on the CT's grid."""
    if settings.resample == "probability":
        by_class = predict_probabilities(ensemble, image, settings)
        return interpolate_label(by_class, shape, out)
    if out is None:
        return resample_nearest(predict_label(ensemble, image, settings), shape)
    by_class = predict_probabilities(ensemble, image, settings)
    for probability, native in zip(by_class, out, strict=True):
        native[:] = resample_nearest(probability, shape)
    return resample_nearest(by_class.argmax(0).astype(np.uint8), shape)


def predict_label(
    ensemble: Ensemble, image: Num[np.ndarray, "z y x"], settings: PredictSettings
) -> UInt8[np.ndarray, "z y x"]:
    """Predict the most probable class of each voxel of a preprocessed image.

    All shapes of a bucket share one compiled function. Only the label map leaves the device.
    """
    sums = _sum_bucket(ensemble, image, settings)
    place = place_volume(image.shape, ensemble.model.patch_shape)
    return np.asarray(_most_probable(sums))[place]


def predict_probabilities(
    ensemble: Ensemble, image: Num[np.ndarray, "z y x"], settings: PredictSettings
) -> Float[np.ndarray, "k z y x"]:
    """Predict the class probabilities whose argmax is the label map of `predict_label`.

    Unlike `probabilities` it returns a NumPy array and shares the compiled function of
    `predict_label`.
    """
    sums = _sum_bucket(ensemble, image, settings)
    place = place_volume(image.shape, ensemble.model.patch_shape)
    return np.asarray(_normalize(sums))[:, *place]


def lower_prediction(
    ensemble: Ensemble, shape: Shape, settings: PredictSettings, device: jax.Device
) -> jax.stages.Lowered:
    """Lower the compiled function of `predict_label` for a device that need not be here.

    Args:
        ensemble: its parameters may be `jax.ShapeDtypeStruct`s.
        shape: (z, y, x) of the preprocessed image.
        settings: step size, weighting, mirroring, batch size and bucket.
        device: the device to compile for, such as one of a topology description.
    """
    there = SingleDeviceSharding(device)

    def describe(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=there)

    model = ensemble.model
    bucket = bucket_shape(shape, model.patch_shape, settings.bucket)
    image = describe(jax.ShapeDtypeStruct(bucket, model.preprocess.dtype))
    size = describe(jax.ShapeDtypeStruct((), np.int32))
    importance = describe(importance_map(model.patch_shape, settings.weighting))
    params = jax.tree.map(describe, ensemble.params)
    return _sum_any_shape.lower(
        model.network, params, image, (size, size, size), importance, settings=settings
    )


def _sum_bucket(
    ensemble: Ensemble, image: np.ndarray, settings: PredictSettings
) -> Float[Array, "k Z Y X"]:
    """Sum over the windows of an image, in the shape of its bucket.

    The windows cover the image, padded to the patch on axes where that is larger, and so never see
    the zeros that fill the rest of the bucket.
    """
    model = ensemble.model
    z, y, x = bucket_shape(image.shape, model.patch_shape, 1)
    valid_shape = np.int32(z), np.int32(y), np.int32(x)
    padded = pad_volume(image, model.patch_shape, settings.bucket)
    importance = importance_map(model.patch_shape, settings.weighting)
    return _sum_any_shape(
        model.network, ensemble.params, padded, valid_shape, importance, settings=settings
    )


def _choose_settings(model: Model, mirror: bool | None) -> PredictSettings:
    return model.predict if mirror is None else model.predict.model_copy(update={"mirror": mirror})
