"""Helpers for pmap: send a batch to the devices, copy the state to each, and read results."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kitsjax.errors import InputError

AXIS = "device"
"""Name of the axis that pmap maps the steps of a run over."""

Tree = TypeVar("Tree")


def check_batch(batch_size: int, accumulation_steps: int, devices: int) -> None:
    """Refuse a global batch that cannot be shared equally.

    Args:
        batch_size: patches in the global batch.
        accumulation_steps: micro-batches that each device takes its share in.
        devices: devices of all hosts.

    Raises:
        InputError: the batch cannot be divided; the message names the nearest larger size that can.
    """
    unit = devices * accumulation_steps
    if batch_size % unit:
        raise InputError(
            f"sampling.batch_size = {batch_size} cannot be divided over {devices} device(s) with "
            f"train.accumulation_steps = {accumulation_steps}; use a multiple of {unit}, such as "
            f"{-(-batch_size // unit) * unit}"
        )


def shard(batch: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """Reshape a host's batch from (b, ...) to (devices, b / devices, ...)."""
    return {k: v.reshape(devices, v.shape[0] // devices, *v.shape[1:]) for k, v in batch.items()}


def send(batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Begin to copy a host's batch to its devices, laid out as the steps take it.

    A device copies while it computes, so the step that takes the batch need not wait for it.

    Returns:
        Arrays (devices, b / devices, ...).
    """
    mesh = Mesh(np.asarray(jax.local_devices()), (AXIS,))
    shares = shard(batch, jax.local_device_count())
    return jax.device_put(shares, NamedSharding(mesh, PartitionSpec(AXIS)))


def replicate(tree: Tree) -> Tree:
    """Copy a tree to each of this host's devices, for a step under pmap.

    Returns:
        The tree with leaves (devices, ...). They are laid out as the steps lay out their own
        results: with another layout, such as that of `flax.jax_utils.replicate`, the second step
        would compile again.
    """
    devices = jax.local_device_count()
    copies = jax.tree.map(lambda x: np.broadcast_to(x, (devices, *np.shape(x))), tree)
    return jax.pmap(lambda x: x, axis_name=AXIS)(copies)


def local_value(array: jax.Array) -> np.ndarray:
    """Read what a step returned on this host's first device, without the axis of devices.

    It waits for that step and for nothing else. Indexing the array instead would be a computation
    of all devices, which queues behind the step that is running.
    """
    return np.asarray(array.addressable_data(0)).reshape(array.shape[1:])


def first_replica(tree: Tree) -> Tree:
    """Copy a replicated tree's arrays of this host's first device to the host.

    Returns:
        The tree with NumPy arrays of their own memory, so that the next step may reuse that of
        the device.
    """

    def copy(array: jax.Array) -> np.ndarray:
        value = local_value(array)
        # On a CPU, NumPy looks at the device's memory.
        on_host = next(iter(array.devices())).platform == "cpu"
        return value.copy() if on_host else value

    for array in jax.tree.leaves(tree):
        array.addressable_data(0).copy_to_host_async()
    return jax.tree.map(copy, tree)
