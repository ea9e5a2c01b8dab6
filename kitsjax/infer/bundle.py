"""A saved model: parameters and the settings that they need, in one safetensors file, no pickle.

The tensors are the network's parameters under slash-joined names. The file's metadata holds
`kitsjax_format` (this layout's version), `settings` (TOML), `labels` (JSON), `provenance` (JSON)
and `sha256`, over all of these and the tensors.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kitsjax.config import PredictSettings, PreprocessSettings, Settings, parse_settings, to_toml
from kitsjax.errors import InputError
from kitsjax.files import written_beside
from kitsjax.labels import CLASSES
from kitsjax.model.unet import build_network

FORMAT = 1
"""Raised when an older kitsjax could not read a newer bundle rightly."""

BUNDLE_NAME = "model.safetensors"
"""Name of the bundle in a run folder."""

Params = Mapping[str, Any]
"""Nested dictionaries of arrays: what Linen keeps under "params"."""


@dataclass(frozen=True)
class Model:
    """What predicts: a network, the parameters of one or more of it, and their settings.

    Attributes:
        network: Linen module; hashable.
        params: one pytree whose leaves have a leading axis of ensemble members.
        settings: how the (first) member was trained, and how it predicts unless told otherwise.
        provenance: what training recorded about itself.
    """

    network: nn.Module
    params: Params
    settings: Settings
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        return self.settings.sampling.patch_shape

    @property
    def preprocess(self) -> PreprocessSettings:
        return self.settings.preprocess

    @property
    def predict(self) -> PredictSettings:
        return self.settings.predict


def make_model(
    params: Params, settings: Settings, provenance: Mapping[str, Any] | None = None
) -> Model:
    """A model of a single network from its parameters (without a members axis)."""
    network = build_network(settings.network, settings.sampling.patch_shape)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params)
    return Model(network, stacked, settings, dict(provenance or {}))


def combine_models(models: Sequence[Model]) -> Model:
    """An ensemble, whose prediction is the mean of its members' probabilities.

    The settings are the first model's.

    Raises:
        InputError: no models, or they differ in network, patch shape or preprocessing.
    """
    if not models:
        raise InputError("no model given: name at least one run folder or .safetensors file")
    first = models[0]
    for number, model in enumerate(models[1:], start=2):
        for name, ours, theirs in (
            ("network", first.network, model.network),
            ("patch shape", first.patch_shape, model.patch_shape),
            ("preprocessing", first.preprocess, model.preprocess),
        ):
            if ours != theirs:
                raise InputError(
                    f"model {number} has another {name} than model 1: average only models of "
                    "equal [network], [preprocess] and sampling.patch_shape"
                )
    if len(models) == 1:
        return first
    params = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(m.params for m in models))
    members = {"members": [model.provenance for model in models]}
    return Model(first.network, params, first.settings, members)


def save_bundle(
    path: str | Path, params: Params, settings: Settings, provenance: Mapping[str, Any]
) -> None:
    """Write one network's parameters (without a members axis) as a bundle, whole or not at all.

    Args:
        provenance: what tells where the parameters come from; anything that JSON holds.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    tensors = {
        name: np.asarray(leaf, order="C") for name, leaf in flatten_dict(params, sep="/").items()
    }
    metadata = {
        "kitsjax_format": str(FORMAT),
        "settings": to_toml(settings),
        "labels": json.dumps(CLASSES),
        "provenance": json.dumps(dict(provenance)),
    }
    metadata["sha256"] = _checksum(tensors, metadata)
    with written_beside(path) as beside:
        try:
            save_file(tensors, beside, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def load_model(path: str | Path) -> Model:
    """Read a bundle, or the one in a run folder, and build its network.

    Raises:
        InputError: no bundle there, not a bundle, one of a newer kitsjax, a damaged one, or
            parameters that are not those of the network of its settings.
    """
    path = Path(path)
    if path.is_dir():
        path = path / BUNDLE_NAME
        if not path.is_file():
            raise InputError(
                f"{path.parent}: holds no {BUNDLE_NAME}; train to the end there, or give a bundle"
            )
    tensors, metadata = _read(path)
    settings = _read_settings(path, metadata["settings"])
    model = make_model(unflatten_dict(tensors, sep="/"), settings)
    _check_network(path, model, tensors)
    return Model(model.network, model.params, settings, json.loads(metadata["provenance"]))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and metadata of a bundle whose format and checksum are right."""
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
            "bundle"
        ) from None
    given = metadata.pop("sha256", "")
    if given != _checksum(tensors, metadata):
        raise InputError(f"{path}: damaged (its checksum differs); copy or save the model again")
    return tensors, metadata


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    version = metadata.get("kitsjax_format", "")
    if not version.isdecimal():
        raise InputError(f"{path}: not a kitsjax model; give a {BUNDLE_NAME} written by training")
    if int(version) > FORMAT:
        raise InputError(
            f"{path}: written by a newer kitsjax (format {version}, this one reads {FORMAT}); "
            "upgrade kitsjax"
        )


def _read_settings(path: Path, text: str) -> Settings:
    try:
        return parse_settings(text, "its settings")
    except InputError as error:
        # The checksum has passed, so the settings are as they were written.
        raise InputError(
            f"{path}: written by another version of kitsjax ({error}); use that version"
        ) from None


def _check_network(path: Path, model: Model, tensors: Mapping[str, np.ndarray]) -> None:
    window = jax.ShapeDtypeStruct((1, *model.patch_shape, 1), jnp.float32)
    variables = jax.eval_shape(model.network.init, jax.random.key(0), window)
    expected = {
        name: (leaf.shape, leaf.dtype)
        for name, leaf in flatten_dict(variables["params"], sep="/").items()
    }
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{path}: a model of another network: {name} is {_describe(found.get(name))} "
                f"where its settings make it {_describe(expected.get(name))}; save it again with "
                "the settings it was trained with"
            )


def _describe(tensor: tuple[tuple[int, ...], np.dtype] | None) -> str:
    return f"{tensor[1]} {list(tensor[0])}" if tensor else "absent"


def _checksum(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    # JSON keeps names, types and shapes apart, so that no two bundles hash the same bytes.
    layout = {name: (str(t.dtype), t.shape) for name, t in tensors.items()}
    digest.update(json.dumps([dict(metadata), layout], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].data)
    return digest.hexdigest()
