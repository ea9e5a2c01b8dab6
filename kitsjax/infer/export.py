"""The windowed predictor as a portable program: StableHLO that runs with JAX and NumPy alone."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import core, export
from jaxtyping import Array, Num, UInt8

from kitsjax.files import atomic_write, write_text
from kitsjax.infer import sliding_window
from kitsjax.infer.sliding_window import normalize_sums, sum_windows
from kitsjax.infer.trained_model import Models, stack_models
from kitsjax.labels import CLASSES

PLATFORMS = ("cpu", "cuda", "tpu")
"""What a program runs on, in `jax.export`'s words."""

PROGRAM_NAME, DESCRIPTION_NAME = "program.stablehlo", "program.json"
"""Files of an exported program's folder."""


def export_model(
    model: Models, *, dtype: str = "float32", platforms: Sequence[str] = PLATFORMS
) -> bytes:
    """A program from a preprocessed image (z, y, x), of any shape, to its label map (z, y, x).

    It holds the parameters, and its numbers are those of `segment` before the label map is brought
    to the native grid. `jax.export.deserialize(program).call(image)` runs it, in a process that
    need not have kitsjax.

    Args:
        model: of `load_model`, or several whose probabilities are averaged.
        dtype: of the convolutions, "float32" or "bfloat16".
        platforms: of "cpu", "cuda", "rocm" and "tpu"; each gets the convolution that is fast there.

    Returns:
        A serialized `jax.export.Exported`, for which JAX promises to read it for six months. The
        image is of the dtype in which preprocessing stores it, the label map uint8.
    """
    first, members = stack_models(model)
    network = first.network.clone(implementation="portable", dtype=jnp.dtype(dtype))
    settings, patch_shape = first.predict, first.patch_shape
    importance = sliding_window.importance_map(patch_shape, settings.weighting)

    def predict(image: Num[Array, "z y x"]) -> UInt8[Array, "z y x"]:
        before, widths = [], []
        for size, edge in zip(image.shape, patch_shape, strict=True):
            short = core.max_dim(edge - size, 0)
            before.append(short // 2)
            widths.append((short // 2, short - short // 2))
        padded = jnp.pad(image, widths)
        z, y, x = (jnp.asarray(size, jnp.int32) for size in padded.shape)
        sums = sum_windows(network, members, padded, (z, y, x), importance, settings)
        label = normalize_sums(sums).argmax(0).astype(jnp.uint8)
        return jax.lax.dynamic_slice(label, before, image.shape)

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
    """Write a program, and what one must know to feed it, as two files of a folder.

    `program.json`, written last, tells the image's spacing, percentiles and dtype, the labels, the
    platforms and the program's SHA-256. Arguments as of `export_model`.

    Raises:
        InputError: the models differ, or the folder cannot be written.
    """
    program = export_model(model, dtype=dtype, platforms=platforms)
    ensemble = stack_models(model)
    first = ensemble.model
    description = {
        "preprocess": first.preprocess.model_dump(mode="json"),
        "axes": "image (z, y, x), pointing inferior, posterior and left",
        "predict": first.predict.model_dump(mode="json"),
        "patch_shape": first.patch_shape,
        "members": len(jax.tree.leaves(ensemble.members)[0]),
        "dtype": dtype,
        "labels": CLASSES,
        "platforms": list(platforms),
        "versions": {name: version(name) for name in ("kitsjax", "jax")},
        "sha256": hashlib.sha256(program).hexdigest(),
    }
    with atomic_write(Path(folder) / PROGRAM_NAME) as beside:
        beside.write_bytes(program)
    write_text(Path(folder) / DESCRIPTION_NAME, json.dumps(description, indent=1) + "\n")
