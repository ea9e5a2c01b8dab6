"""Helpers for pmap: split a batch among devices, and copy the state to each of them."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

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


def first_replica(tree: Tree) -> Tree:
    """Copy a replicated tree's arrays of this host's first device to the host."""

    def copy(array: jax.Array) -> np.ndarray:
        # Only the first device's shard is read; indexing would involve the other devices too.
        return np.asarray(array.addressable_shards[0].data).reshape(array.shape[1:])

    return jax.tree.map(copy, tree)
