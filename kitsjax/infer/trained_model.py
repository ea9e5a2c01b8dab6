"""A trained model: a network's parameters as a pytree, with the few settings that they need."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from kitsjax.errors import InputError
from kitsjax.labels import KITS, LabelScheme
from kitsjax.model.arrays import Params
from kitsjax.settings import PredictSettings, PreprocessSettings
from kitsjax.types import Shape


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params",),
    meta_fields=("network", "patch_shape", "preprocess", "predict", "scheme"),
)
@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network: a pytree whose leaves are its parameters; everything else is static.

    It can be passed to functions under `jax.jit`, `jax.grad` and `jax.tree.map`. To map over models
    of one kind with `jax.vmap`, stack them:

        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)

    Attributes:
        params: nested dictionaries of float32 arrays, as Linen keeps them under "params".
        network: Linen module that maps windows (b, z, y, x, 1) to a tuple of logits, the finest
            first.
        patch_shape: (z, y, x) of a window, voxels.
        preprocess: how a CT becomes the image that the network sees.
        predict: how windows are placed and averaged.
        scheme: the classes that it predicts: the background and the labels, by their names.
    """

    params: Params
    network: nn.Module
    patch_shape: Shape
    preprocess: PreprocessSettings
    predict: PredictSettings
    scheme: LabelScheme = KITS

    def __repr__(self) -> str:
        count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"Model({count:,} parameters, windows {self.patch_shape}, {self.preprocess!r})"


Models = Model | Sequence[Model]
"""A model, or several whose probabilities are averaged: an ensemble."""


class Ensemble(NamedTuple):
    """Models that differ in their parameters only.

    Attributes:
        model: the first model; its network and settings hold for all.
        params: stacked parameters: each leaf has a leading axis of ensemble members.
    """

    model: Model
    params: Params


def stack_models(models: Models) -> Ensemble:
    """Stack the parameters of one model or several; the first one's settings hold for all.

    Raises:
        TypeError: one of them is not a model.
        InputError: no model, or they differ in labels, network, patch shape or preprocessing.
    """
    members = [models] if isinstance(models, Model) else list(models)
    for member in members:
        if not isinstance(member, Model):
            raise TypeError(f"a model is what load_model returns, not {type(member).__name__}")
    if not members:
        raise InputError("no model given; give at least one")
    first = members[0]
    for number, member in enumerate(members[1:], start=2):
        if difference := _find_difference(first, member):
            raise InputError(
                f"model {number} has another {difference} than model 1; average only models of "
                "equal [labels], [network], [preprocess] and sampling.patch_shape"
            )
    params = [member.params for member in members]
    return Ensemble(first, jax.tree.map(lambda *leaves: jnp.stack(leaves), *params))


def _find_difference(first: Model, other: Model) -> str | None:
    if other.scheme.names != first.scheme.names:
        return f"label scheme ({', '.join(other.scheme.names[1:])})"
    for field in fields(LabelScheme):
        if getattr(other.scheme, field.name) != getattr(first.scheme, field.name):
            return f"label scheme (labels.{field.name})"
    if other.network != first.network:
        return "network"
    if other.patch_shape != first.patch_shape:
        return "patch shape"
    expected, found = (_image_settings(model.preprocess) for model in (first, other))
    for name in expected:
        if found.get(name) != expected[name]:
            return f"preprocessing (preprocess.{name})"
    return None


def _image_settings(settings: PreprocessSettings) -> dict[str, Any]:
    """Return the settings that the image of a CT depends on, by name.

    Given the intensities, it does not matter where they come from.
    """
    names = ["spacing_mm", "hu_range", "dtype", "intensities"]
    if not settings.intensities:
        names += ["normalize", "lower_percentile", "upper_percentile"]
    return {name: getattr(settings, name) for name in names}
