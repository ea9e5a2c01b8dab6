"""Exported models: the whole prediction as StableHLO, which runs without kitsjax."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Num, UInt8

from kitsjax.files import atomic_write, write_text
from kitsjax.infer.sliding_window import (
    importance_map,
    most_probable,
    pad_volume,
    place_volume,
    sum_windows,
)
from kitsjax.infer.trained_model import Models, require_one_image, stack_models

PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that an exported model runs on, as `jax.export` names them."""

EXPORTED_NAME, DESCRIPTION_NAME = "model.stablehlo", "model.json"
"""The two files in the folder of an exported model."""


def export_model(
    model: Models, *, dtype: str = "float32", platforms: Sequence[str] = PLATFORMS
) -> bytes:
    """Export the function from a preprocessed image (z, y, x) of any shape to its label map.

    It contains the parameters, and computes the label map on the image's own grid, which `segment`
    with `predict.resample = "label"` then resamples to the CT's.
    `jax.export.deserialize(exported).call(image)` runs it in a process where kitsjax need not be
    installed.

    Args:
        model: a model from `load_model`, or a sequence of them, whose probabilities are averaged.
        dtype: type that the convolutions compute in, "float32" or "bfloat16".
        platforms: any of "cpu", "cuda", "rocm" and "tpu"; each gets the convolution that is fast
            there.

    Returns:
        A serialized `jax.export.Exported`, which JAX promises to read for six months. The image's
        type is the one in which preprocessing stores it; the label map is uint8.

    Raises:
        InputError: no model, or models that differ in network, patch shape or preprocessing, the
            intensities of the normalization included.
    """
    ensemble = stack_models(model)
    require_one_image(ensemble)
    first, params, *_ = ensemble
    network = first.network.clone(implementation="portable", dtype=jnp.dtype(dtype))
    settings, patch_shape = first.predict, first.patch_shape
    importance = importance_map(patch_shape, settings.weighting)

    def predict(image: Num[Array, "z y x"]) -> UInt8[Array, "z y x"]:
        padded = pad_volume(image, patch_shape)
        # The sizes are symbols here, and numbers only when the exported model runs.
        z, y, x = (jnp.asarray(size, jnp.int32) for size in padded.shape)
        sums = sum_windows(network, params, padded, (z, y, x), importance, settings, first.scheme)
        starts = [part.start for part in place_volume(image.shape, patch_shape)]
        return jax.lax.dynamic_slice(most_probable(sums), starts, image.shape)

    shape = export.symbolic_shape("z, y, x")
    image = jax.ShapeDtypeStruct(shape, first.preprocess.dtype)
    exported = export.export(jax.jit(predict), platforms=platforms)(image)
    return bytes(exported.serialize())


def save_exported_model(
    folder: str | Path,
    model: Models,
    *,
    dtype: str = "float32",
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write an exported model to model.stablehlo, and its description to model.json.

    The description, written last, says how to make an image for the model (range of HU, spacing,
    normalization, axes, type), what its labels are, how kitsjax predicts with it
    (`predict.resample`: how it comes back to the CT's grid; and the post-processing, which is left
    to whoever runs the exported model, but for `least_lesion_certainty`, which needs the
    probabilities), which platforms it runs on, and its SHA-256.

    Args:
        folder: where the two files go; it is made if it does not exist.
        model: a model from `load_model`, or a sequence of them, whose probabilities are averaged.
        dtype: type that the convolutions compute in, "float32" or "bfloat16".
        platforms: any of "cpu", "cuda", "rocm" and "tpu".

    Raises:
        InputError: no model, models that differ, or a folder that cannot be written.
    """
    exported = export_model(model, dtype=dtype, platforms=platforms)
    first, params, *_ = stack_models(model)
    description = {
        "preprocess": first.preprocess.model_dump(mode="json"),
        "axes": "image (z, y, x), pointing inferior, posterior and left",
        "image": "HU clipped to hu_range, resampled by cubic splines (voxel centers, edges "
        "continued), rounded to whole HU, then clipped and normalized",
        "predict": first.predict.model_dump(mode="json"),
        "patch_shape": first.patch_shape,
        "members": len(jax.tree.leaves(params)[0]),
        "dtype": dtype,
        "labels": first.scheme.names,
        "platforms": list(platforms),
        "versions": {name: version(name) for name in ("kitsjax", "jax")},
        "sha256": hashlib.sha256(exported).hexdigest(),
    }
    with atomic_write(Path(folder) / EXPORTED_NAME) as temporary:
        temporary.write_bytes(exported)
    write_text(Path(folder) / DESCRIPTION_NAME, json.dumps(description, indent=1) + "\n")
