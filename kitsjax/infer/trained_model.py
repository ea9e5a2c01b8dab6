"""A trained model: a network's parameters as a pytree, with the few settings that they need."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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


FREE_PREDICT = ("batch_size", "bucket")
"""Settings of [predict] that only say how it is computed: they change last digits at most."""

Models = Model | Sequence[Model]
"""A model, or several whose probabilities are averaged: an ensemble."""


class Ensemble(NamedTuple):
    """Models that differ in their parameters, and perhaps in how HU are normalized for them.

    Attributes:
        model: the first model; its network and settings hold for all, but for the normalization.
        params: stacked parameters: each leaf has a leading axis of ensemble members.
        images: how a CT becomes each of the different images that the members see.
        image_of: for each member, which of these images it sees.
    """

    model: Model
    params: Params
    images: tuple[PreprocessSettings, ...]
    image_of: tuple[int, ...]


def stack_models(models: Models) -> Ensemble:
    """Stack the parameters of one model or several; the first one's settings hold for all.

    Each member sees an image that is normalized as in its own training. Folds that normalize by the
    foreground of their training cases, for instance, have different intensities.

    Raises:
        TypeError: one of them is not a model.
        InputError: no model, they differ in labels, network, patch shape or preprocessing other
            than the normalization, or a parameter is not finite (which tracers do not tell).
    """
    members = list(models) if isinstance(models, Iterable) else [models]
    for member in members:
        if not isinstance(member, Model):
            raise TypeError(f"a model is what load_model returns, not {type(member).__name__}")
    if not members:
        raise InputError("no model given; give at least one")
    for number, member in enumerate(members, start=1):
        if name := find_not_finite(member.params):
            raise InputError(
                f"model {number}: its parameter {name} holds NaN or infinite values, so it finds "
                "nothing; load or train it again"
            )
    first = members[0]
    for number, member in enumerate(members[1:], start=2):
        if difference := _find_difference(first, member):
            raise InputError(
                f"model {number} has another {difference} than model 1; average only models of "
                "equal [labels], [network], sampling.patch_shape, and [preprocess] but for its "
                "intensities"
            )
    params = [member.params for member in members]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    # Members whose images are equal share one.
    numbers = [_normalization(member.preprocess) for member in members]
    different = list(dict.fromkeys(numbers))
    images = tuple(members[numbers.index(number)].preprocess for number in different)
    return Ensemble(first, stacked, images, tuple(map(different.index, numbers)))


def find_not_finite(params: Params) -> str:
    """Name the first parameter that holds NaN or infinite values; empty if none does.

    Args:
        params: arrays; tracers, whose values are not known, are passed over.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf)).all():
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""


def require_one_image(ensemble: Ensemble) -> None:
    """Refuse an ensemble whose members see different images, where one image is given for all.

    Raises:
        InputError: they do.
    """
    if len(ensemble.images) > 1:
        raise InputError(
            "the models normalize by different intensities (preprocess.intensities), so no one "
            "image is right for all; predict with segment or predict.py, or call each model with "
            "its own preprocess(volume, model.preprocess)"
        )


def _find_difference(first: Model, other: Model) -> str | None:
    if other.scheme.names != first.scheme.names:
        return f"label scheme ({', '.join(other.scheme.names[1:])})"
    for field in fields(LabelScheme):
        same = getattr(other.scheme, field.name) == getattr(first.scheme, field.name)
        if not same and field.name != "colors":
            return f"label scheme (labels.{field.name})"
    if strip_how(other.network) != strip_how(first.network):
        return "network"
    if other.patch_shape != first.patch_shape:
        return "patch shape"
    for name in ("spacing_mm", "hu_range", "dtype"):
        if getattr(first.preprocess, name) != getattr(other.preprocess, name):
            return f"preprocessing (preprocess.{name})"
    return None


def strip_how(network: nn.Module) -> nn.Module:
    """Return the network with one value for the fields that only say how it is computed."""
    how: dict[str, Any] = {"implementation": "direct", "remat": False}
    return network.clone(**{name: value for name, value in how.items() if hasattr(network, name)})


def _normalization(settings: PreprocessSettings) -> tuple[Any, ...]:
    """Return what the normalization of an image depends on.

    Given the intensities, it does not matter where they come from.
    """
    if settings.intensities:
        return settings.intensities
    return settings.normalize, settings.lower_percentile, settings.upper_percentile
