"""The program that holds the network: a batch of windows, an equal share on each device."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Num

from kitsjax.infer.sliding_window import importance_map, windows_at_a_time
from kitsjax.infer.trained_model import Ensemble
from kitsjax.infer.window_probabilities import window_probabilities
from kitsjax.labels import LabelScheme
from kitsjax.model.arrays import Params
from kitsjax.model.compiling import JitByPlatform
from kitsjax.settings import PredictSettings

_AXIS = "device"


@partial(JitByPlatform, static_argnames=("network", "mirror", "image_of", "mesh", "scheme"))
def predict_windows(
    params: Params,
    importance: Float[Array, "z y x"],
    patches: Num[Array, "b i z y x"],
    *,
    network: nn.Module,
    mirror: bool,
    image_of: tuple[int, ...],
    mesh: Mesh,
    scheme: LabelScheme,
) -> Float[Array, "b k z y x"]:
    """Predict a batch of windows, an equal share on each device: probabilities times importance.

    The products are rounded here, where nothing is added to them: fused with a sum they would not
    be, and differ in the last bit.

    Args:
        params: stacked parameters, replicated over the mesh.
        importance: weight of each voxel of a window, replicated likewise.
        patches: normalized intensities, once for each image, divided over the mesh.
        network: maps windows (b, z, y, x, 1) to a tuple of logits, the finest first.
        mirror: whether to average over the eight mirrorings.
        image_of: for each ensemble member, which of the images it sees.
        mesh: the devices.
        scheme: the background and its labels are the classes.
    """

    def predict(params: Params, importance: Array, patches: Array) -> Array:
        by_class = window_probabilities(network, params, patches, mirror, scheme, image_of)
        return importance[None, None] * by_class

    whole, divided = PartitionSpec(), PartitionSpec(_AXIS)
    # Nothing is exchanged, so there is nothing to check of what varies over the devices.
    mapped = jax.shard_map(
        predict, mesh=mesh, in_specs=(whole, whole, divided), out_specs=divided, check_vma=False
    )
    return mapped(params, importance, patches)


def lower_windows(
    ensemble: Ensemble, settings: PredictSettings, device: jax.Device
) -> jax.stages.Lowered:
    """Lower the program of one batch of windows for a device that need not be here.

    Args:
        ensemble: its parameters may be `jax.ShapeDtypeStruct`s.
        settings: weighting, mirroring and batch size.
        device: the device to compile for, such as one of a topology description.
    """
    mesh, model = Mesh(np.array([device]), (_AXIS,)), ensemble.model

    def describe(array: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    params = jax.tree.map(lambda leaf: describe(leaf, PartitionSpec()), ensemble.params)
    shape = windows_at_a_time(settings, device.platform), len(ensemble.images), *model.patch_shape
    patches = jax.ShapeDtypeStruct(shape, model.preprocess.dtype)
    importance = importance_map(model.patch_shape, settings.weighting)
    return predict_windows.lower(
        params,
        describe(importance, PartitionSpec()),
        describe(patches, PartitionSpec(_AXIS)),
        network=model.network,
        mirror=settings.mirror,
        image_of=ensemble.image_of,
        mesh=mesh,
        scheme=model.scheme,
    )


def put_on_devices(
    ensemble: Ensemble, settings: PredictSettings, devices: Sequence[jax.Device]
) -> Callable[[np.ndarray], jax.Array]:
    """Put parameters and importance on each device; return the function of a batch of windows."""
    mesh = Mesh(np.array(devices), (_AXIS,))
    importance = importance_map(ensemble.model.patch_shape, settings.weighting)
    params, weights = jax.device_put(
        (ensemble.params, importance), NamedSharding(mesh, PartitionSpec())
    )
    divided = NamedSharding(mesh, PartitionSpec(_AXIS))

    def predict(patches: np.ndarray) -> jax.Array:
        found: jax.Array = predict_windows(
            params,
            weights,
            jax.device_put(patches, divided),
            network=ensemble.model.network,
            mirror=settings.mirror,
            image_of=ensemble.image_of,
            mesh=mesh,
            scheme=ensemble.model.scheme,
        )
        return found

    return predict
