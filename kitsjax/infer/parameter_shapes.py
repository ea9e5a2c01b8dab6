"""The parameters that a network has, by name: to tell whether stored ones fit it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from kitsjax.labels import LabelScheme
from kitsjax.model.unet import build_network
from kitsjax.settings import NetworkSettings
from kitsjax.types import Shape

Parameters = Mapping[str, np.ndarray | jax.ShapeDtypeStruct]
"""Arrays, or their shapes and types, by their nested names joined by slashes."""


def network_parameters(
    settings: NetworkSettings, patch_shape: Shape, *, scheme: LabelScheme, regions: bool
) -> Parameters:
    """Return shapes and types of the network's parameters.

    Nothing is computed, and JAX is not asked for a device: it may not have been started yet.

    Args:
        settings, patch_shape, scheme, regions: see `build_network`.

    Raises:
        InputError: see `build_network`.
    """
    # They are the same on all platforms.
    network = build_network(settings, patch_shape, "cpu", scheme=scheme, regions=regions)
    window = jax.ShapeDtypeStruct((1, *patch_shape, 1), jnp.float32)
    # A key that is made outside would be made on a device.
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), window)
    parameters: Parameters = flatten_dict(variables["params"], sep="/")
    return parameters


def describe_difference(found: Parameters, expected: Parameters) -> str:
    """Name the first parameter that differs in name, shape or type; empty if none does."""
    for name in sorted(expected.keys() | found.keys()):
        one, other = (_describe(each.get(name)) for each in (found, expected))
        if one != other:
            return f"{name} is {one}, but {other}"
    return ""


def _describe(parameter: np.ndarray | jax.ShapeDtypeStruct | None) -> str:
    return "absent" if parameter is None else f"{parameter.dtype} {list(parameter.shape)}"
