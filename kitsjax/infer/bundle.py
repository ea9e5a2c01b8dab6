"""Model files (bundles): parameters and the settings they need in one safetensors file, no pickle.

The tensors are the network's parameters, whose nested names are joined by slashes. The file's
metadata contains `kitsjax_format` (the version of this layout), `settings` (TOML), `labels` (JSON,
the names of the classes, which are those of the settings' label scheme), `provenance` (JSON) and
`sha256`, the checksum of all of these and the tensors. The tensors are float32, or float16 to halve
the file; in memory the parameters are always float32.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kitsjax.config import choose_scheme, override_settings, parse_stored_settings, to_toml
from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.infer.half_precision import halve_tensors, widen_tensors
from kitsjax.infer.packaged_models import locate_model
from kitsjax.infer.parameter_shapes import describe_difference, network_parameters
from kitsjax.infer.trained_model import Model, find_not_finite
from kitsjax.input_file import open_file
from kitsjax.model.arrays import Params
from kitsjax.model.unet import build_network
from kitsjax.settings import Settings

FORMAT = 4
"""The version of the layout; it goes up when an older kitsjax would misread a new model file.

Format 1 had other names of settings; formats 1 and 2 were without `preprocess.hu_range`, and
formats up to 3 without `preprocess.normalize`.
"""

BUNDLE_NAME = "model.safetensors"
"""The name of the model file in a run folder."""


@dataclass(frozen=True)
class Bundle:
    """The content of a model file.

    Attributes:
        params: nested dictionaries of NumPy arrays.
        settings: the settings that they were trained with.
        provenance: where they come from, such as package versions, split and scores.
        sha256: checksum of all this, which tells one model from another.
    """

    params: Params
    settings: Settings
    provenance: dict[str, Any]
    sha256: str


def save_bundle(
    path: str | Path,
    params: Params,
    settings: Settings,
    provenance: Mapping[str, Any],
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a model file in an atomic write, and to the disk itself.

    Args:
        path: the file; its folder is made if it does not exist.
        params: parameters of one network, without an axis of ensemble members.
        settings: the settings that they were trained with, with the labels of a data set's own
            scheme (`make_scheme.describe_scheme`).
        provenance: where they come from: anything that JSON can store.
        dtype: type of the parameters in the file. In float16 they are rounded by 2**-11 of their
            values, or by 3e-8 if that is more, and the file has half the size.

    Raises:
        InputError: the folder cannot be written, the disk is full, or a parameter is not finite or
            too large for float16.
    """
    tensors = {
        name: np.asarray(leaf, order="C") for name, leaf in flatten_dict(params, sep="/").items()
    }
    _check_finite(path, tensors)
    if dtype == "float16":
        tensors = halve_tensors(path, tensors)
    metadata = {
        "kitsjax_format": str(FORMAT),
        "settings": to_toml(settings),
        "labels": json.dumps(choose_scheme(settings).names),
        "provenance": json.dumps(dict(provenance)),
    }
    metadata["sha256"] = _checksum(tensors, metadata)
    with atomic_write(path, sync=True) as temporary:
        # save_file would write a file that only its owner can read.
        temporary.write_bytes(save(tensors, metadata))


def load_model(path: str | Path) -> Model:
    """Load a trained model from a model file or a run folder, or the package's model of a name.

        model = kj.load_model("runs/phantom")
        model = kj.load_model("synthetic")  # part of the package

    Args:
        path: a model file (.safetensors), the folder of a finished run, which contains one, or a
            name of `packaged_models.PACKAGED`.

    Returns:
        The model, with its parameters on JAX's default device. Its network uses the implementation
        of the convolution that is fast there.

    Raises:
        InputError: no model there, a file that is damaged or no model file, one written by another
            version of kitsjax, or parameters that are not finite or do not fit the network of its
            settings.
    """
    bundle = read_bundle(path)
    return make_model(bundle.params, bundle.settings)


def make_model(params: Params, settings: Settings) -> Model:
    """Make a model on JAX's default device from parameters and their training's settings."""
    shape, scheme = settings.sampling.patch_shape, choose_scheme(settings)
    regions = settings.loss.regions
    network = build_network(settings.network, shape, scheme=scheme, regions=regions)
    on_device = jax.tree.map(jnp.asarray, params)
    return Model(on_device, network, shape, settings.preprocess, settings.predict, scheme)


def read_bundle(path: str | Path, overrides: Iterable[str] = ()) -> Bundle:
    """Read a model file, or the one in a run folder, and check that it fits its network.

    Args:
        path: see `load_model`.
        overrides: changes of its settings, such as "predict.mirror=true".

    Raises:
        InputError: see `load_model`; or an override is not valid.
    """
    path = locate_model(path)
    if path.is_dir():
        path = path / BUNDLE_NAME
        if not path.is_file():
            raise InputError(
                f"{path.parent}: holds no {BUNDLE_NAME}; finish the training there, or give a "
                "model file (load_ensemble loads those of all folds)"
            )
    tensors, metadata = _read(path)
    settings = _read_settings(path, metadata)
    _check_labels(path, metadata, settings)
    tensors = widen_tensors(tensors)
    _check_network(path, settings, tensors)
    _check_finite(path, tensors)
    params, provenance = unflatten_dict(tensors, sep="/"), json.loads(metadata["provenance"])
    changed = override_settings(settings, overrides)
    return Bundle(params, changed, provenance, metadata["sha256"])


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors and metadata of a model file, and check its format and checksum."""
    # safetensors says neither what a pipe or a link is, nor that a file is not readable.
    with open_file(path):
        pass
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); copy or save the model again"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the model ({error.strerror or error}); give a run folder or a "
            "model file"
        ) from None
    content = {name: text for name, text in metadata.items() if name != "sha256"}
    if metadata.get("sha256") != _checksum(tensors, content):
        raise InputError(f"{path}: damaged (its checksum differs); copy or save the model again")
    return tensors, metadata


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    version = metadata.get("kitsjax_format", "")
    if not version.isdecimal() or not {"settings", "labels", "provenance"} <= metadata.keys():
        raise InputError(f"{path}: not a kitsjax model; give a {BUNDLE_NAME} written by training")
    if int(version) > FORMAT:
        raise InputError(
            f"{path}: written by a newer kitsjax (format {version}, this one reads {FORMAT}); "
            "upgrade kitsjax"
        )


def _read_settings(path: Path, metadata: Mapping[str, str]) -> Settings:
    try:
        settings = parse_stored_settings(metadata["settings"], "its settings")
        choose_scheme(settings)
        return settings
    except InputError as error:
        # The checksum is right, so the settings are as another version wrote them.
        raise InputError(
            f"{path}: written by another version of kitsjax ({error}); use that version"
        ) from None


def _check_labels(path: Path, metadata: Mapping[str, str], settings: Settings) -> None:
    """Refuse a model whose outputs are not the classes that its settings name, in their order."""
    stored, names = json.loads(metadata["labels"]), choose_scheme(settings).names
    if stored != list(names):
        raise InputError(
            f"{path}: its labels are {', '.join(map(str, stored))}, and its settings name "
            f"{', '.join(names)}; use the version of kitsjax that wrote it"
        )


def _check_network(path: Path, settings: Settings, tensors: Mapping[str, np.ndarray]) -> None:
    """Compare the names, shapes and types of the tensors with the network's parameters."""
    expected = network_parameters(
        settings.network, settings.sampling.patch_shape,
        scheme=choose_scheme(settings), regions=settings.loss.regions,
    )  # fmt: skip
    if difference := describe_difference(tensors, expected):
        raise InputError(
            f"{path}: a model of another network: {difference} by its settings; save it again with "
            "the settings it was trained with"
        )


def _check_finite(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    if name := find_not_finite(tensors):
        raise InputError(f"{path}: {name} holds NaN or infinite values; train the model again")


def _checksum(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    # JSON separates names, types and shapes, so that different files never hash the same bytes.
    layout = {name: (str(t.dtype), t.shape) for name, t in tensors.items()}
    digest.update(json.dumps([dict(metadata), layout], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    return digest.hexdigest()
