"""Whole-volume prediction: class probabilities of an image, and the label map of a CT."""

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt8

from kitsjax.data.preprocess import preprocess_images
from kitsjax.image.volume import Grid, Volume, require_volume
from kitsjax.infer.lesion_certainty import LesionCertainty
from kitsjax.infer.native_grid import join_slabs, resample_label, resample_probabilities
from kitsjax.infer.postprocess import postprocess
from kitsjax.infer.predict_slabs import explain_memory, predict_slabs
from kitsjax.infer.run_ahead import iterate_ahead
from kitsjax.infer.slab_sums import Slab
from kitsjax.infer.sliding_window import (
    importance_map,
    normalize_sums,
    pad_volume,
    place_volume,
    sum_windows,
)
from kitsjax.infer.trained_model import (
    Ensemble,
    Model,
    Models,
    require_one_image,
    stack_models,
)
from kitsjax.labels import LabelScheme
from kitsjax.settings import PredictSettings
from kitsjax.types import Shape

# Compiled once for each shape; gradients pass through it.
_sum_windows = jax.jit(
    sum_windows, static_argnames=("network", "valid_shape", "settings", "scheme")
)

SLABS_AHEAD = 4
"""The devices are at most so many slabs ahead of the host."""


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
        (class, z, y, x) float32 in [0, 1], on the image's grid; they sum to 1. The classes are
        `model.scheme.names`: of a model of KiTS background, kidney, tumor and cyst.

    Raises:
        TypeError: the image is not a three-dimensional array of a float type, or the model is none.
        InputError: no model, or models that differ (`stack_models`), the intensities of the
            normalization included.
    """
    is_image = not isinstance(image, Volume) and np.ndim(image) == 3
    if not (is_image and jnp.issubdtype(image.dtype, jnp.floating)):
        raise TypeError(
            "an image is a float array (z, y, x); make it with preprocess(volume, model.preprocess)"
        )
    ensemble = stack_models(model)
    require_one_image(ensemble)
    first, params, *_ = ensemble
    settings = _choose_settings(first, mirror)
    padded = pad_volume(image, first.patch_shape)
    importance = importance_map(first.patch_shape, settings.weighting)
    sums = _sum_windows(
        first.network, params, padded, padded.shape, importance,
        settings=settings, scheme=first.scheme,
    )  # fmt: skip
    return normalize_sums(sums)[:, *place_volume(image.shape, first.patch_shape)]


def segment(model: Models, volume: Volume, *, mirror: bool | None = None) -> Volume:
    """Segment a CT: predict the label of each voxel on the CT's own grid.

    All local devices share the CT's windows. The first CT takes longer, as the network is compiled
    once for all CTs. The way back to the CT's grid is the first model's `predict.resample`. Memory
    stays within the bound that docs/prediction.md states: the class probabilities of the whole CT
    are never in memory.

        label = kj.segment(kj.load_model("runs/phantom"), kj.read_volume("scan.nii.gz"))

    Args:
        model: a model from `load_model`, or a sequence of them, whose probabilities are averaged.
        volume: CT in HU, from `read_volume` or `make_volume`.
        mirror: average over the eight mirrorings, at eight times the cost; None: as the first
            model's settings say.

    Returns:
        Label map, uint8, whose values `model.scheme.names` names: of a model of KiTS 0 background,
        1 kidney, 2 tumor, 3 cyst. Its grid is the CT's, so that `write_volume` writes a file like
        the CT's.

    Raises:
        TypeError: the CT is a bare array or a path or not of real numbers, or the model is none.
        InputError: no model, or models that differ (`stack_models`); voxels that are not finite; a
            spacing so large that it cannot be in mm; or a device that lacks memory.
    """
    require_volume(volume, "segment")
    ensemble = stack_models(model)
    images = preprocess_images(volume, ensemble.images)
    _, z, y, x = images.shape
    settings = _choose_settings(ensemble.model, mirror)
    with explain_memory("the CT"):
        label = to_native(
            _predict(ensemble, images, settings, needs_probabilities(settings)),
            (z, y, x),
            volume.array,
            volume.grid,
            settings,
            ensemble.model.scheme,
        )
    return Volume(label, volume.grid)


def needs_probabilities(settings: PredictSettings, wanted: bool = False) -> bool:
    """Tell whether `to_native` takes slabs of probabilities, not of labels.

    Args:
        settings: how to predict.
        wanted: whether the probabilities themselves are wanted, too.
    """
    return wanted or settings.resample == "probability" or settings.least_lesion_certainty > 0


def to_native(
    slabs: Iterable[Slab | Exception],
    shape: Shape,
    like: np.ndarray,
    grid: Grid,
    settings: PredictSettings,
    scheme: LabelScheme,
    out: Float[np.ndarray, "k Z Y X"] | None = None,
) -> UInt8[np.ndarray, "Z Y X"]:
    """Make the label map of a CT on its own grid from the slabs that its prediction yields.

    Args:
        slabs: from `predict_slabs`, with `by_class` as `needs_probabilities` says; an exception
            among them is raised.
        shape: (z, y, x) of the preprocessed image.
        like: an array of the CT's shape and memory layout; its voxels do not matter.
        grid: the CT's.
        settings: how to predict; `resample` says how to come back to the CT's grid, and the
            settings of `postprocess.postprocess` what is done there.
        scheme: the labels.
        out: gets the class probabilities on the CT's grid, whose argmax is the label map before
            post-processing; None: they are not wanted.
    """
    arrays = _read(slabs)
    certainty = LesionCertainty(scheme) if settings.least_lesion_certainty else None
    if needs_probabilities(settings, out is not None):
        see = certainty.add if certainty else None
        label = resample_probabilities(arrays, shape, like, settings.resample, out, see)
    else:
        label = resample_label(arrays, shape, like)
    found = certainty.join() if certainty else None
    return postprocess(label, grid.voxel_mm3, settings, scheme, found)


def predict_label(
    ensemble: Ensemble, image: Num[np.ndarray, "z y x"], settings: PredictSettings
) -> UInt8[np.ndarray, "z y x"]:
    """Predict the most probable class of each voxel of a preprocessed image."""
    require_one_image(ensemble)
    slabs = _read(_predict(ensemble, image[None], settings, by_class=False))
    return join_slabs(slabs, np.empty(image.shape, np.uint8))


def predict_probabilities(
    ensemble: Ensemble, image: Num[np.ndarray, "z y x"], settings: PredictSettings
) -> Float[np.ndarray, "k z y x"]:
    """Predict the class probabilities whose argmax is the label map of `predict_label`.

    Unlike `probabilities` it uses all local devices, returns a NumPy array, and shares the compiled
    network of `segment`.
    """
    require_one_image(ensemble)
    slabs = _read(_predict(ensemble, image[None], settings, by_class=True))
    classes = len(ensemble.model.scheme.names)
    return join_slabs(slabs, np.empty((classes, *image.shape), np.float32))


def _predict(
    ensemble: Ensemble, images: np.ndarray, settings: PredictSettings, by_class: bool
) -> Iterator[Slab | Exception]:
    """Predict one CT, given as each of `ensemble.images`, while the slabs before are read."""
    slabs = predict_slabs(ensemble, [(None, images)], settings, by_class)
    for _, slab in iterate_ahead(slabs, SLABS_AHEAD):
        yield slab


def _read(slabs: Iterable[Slab | Exception]) -> Iterator[np.ndarray]:
    for slab in slabs:
        if isinstance(slab, Exception):
            raise slab
        yield slab.read()


def _choose_settings(model: Model, mirror: bool | None) -> PredictSettings:
    return model.predict if mirror is None else model.predict.model_copy(update={"mirror": mirror})
