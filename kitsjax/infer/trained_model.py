"""What predicts: a network's parameters as a pytree, with the few settings that they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from kitsjax.errors import InputError
from kitsjax.model.arrays import Params
from kitsjax.settings import PredictSettings, PreprocessSettings
from kitsjax.types import Shape


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params",),
    meta_fields=("network", "patch_shape", "preprocess", "predict"),
)
@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network: a pytree whose leaves are its parameters; all else is static.

    Goes through `jax.jit`, `jax.grad` and `jax.tree.map` as it is; models of one kind are stacked
    for `jax.vmap` by `jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)`.

    Attributes:
        params: nested dictionaries of float32 arrays, as Linen's "params".
        network: Linen module; (b, z, y, x, 1) to a tuple of logits, the finest first.
        patch_shape: (z, y, x) of a window, voxels.
        preprocess: how a CT becomes the image that the network sees.
        predict: how windows are laid and averaged.
    """

    params: Params
    network: nn.Module
    patch_shape: Shape
    preprocess: PreprocessSettings
    predict: PredictSettings

    def __repr__(self) -> str:
        count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"Model({count:,} parameters, windows {self.patch_shape}, {self.preprocess!r})"


Models = Model | Sequence[Model]
"""A model, or several whose probabilities are averaged: an ensemble."""


class Ensemble(NamedTuple):
    """Models that differ in their parameters only.

    Attributes:
        model: the first; what is static of it holds for all.
        members: parameters of all, each leaf with a leading axis.
    """

    model: Model
    members: Params


def stack_models(models: Models) -> Ensemble:
    """One model or several as an ensemble; it predicts as the first one's settings say.

    Raises:
        TypeError: something else than models.
        InputError: no models, or they differ in network, patch shape or preprocessing.
    """
    members = [models] if isinstance(models, Model) else list(models)
    for member in members:
        if not isinstance(member, Model):
            raise TypeError(f"a model is what load_model returns, not {type(member).__name__}")
    if not members:
        raise InputError("no model given; give at least one")
    first = members[0]
    for number, model in enumerate(members[1:], start=2):
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
    params = [model.params for model in members]
    return Ensemble(first, jax.tree.map(lambda *leaves: jnp.stack(leaves), *params))
