"""The pure part of a run, mapped over the devices, and what XLA says that it costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kitsjax.errors import InputError
from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet, build_network
from kitsjax.settings import Settings
from kitsjax.train.augment import oversized_shape
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.step import (
    AXIS,
    Metrics,
    Params,
    TrainState,
    augment_patches,
    check_batch,
    eval_step,
    train_step,
)


@dataclass(frozen=True)
class Program:
    """The pure part of a run: network, optimizer, and both steps mapped over the devices."""

    network: UNet
    optimizer: optax.GradientTransformation
    train_step: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
    eval_step: Callable[[Params, Any], Metrics]


def build_program(settings: Settings, devices: Sequence[jax.Device] | None = None) -> Program:
    """The program that the settings describe, not yet compiled.

    Args:
        devices: that it is for, which need not be here; None: all of this run's.

    Raises:
        InputError: the patch, the heads or the batch do not fit the network or the devices.
    """
    train, shape = settings.train, settings.sampling.patch_shape
    check_batch(
        settings.sampling.batch_size, train.accumulation_steps, len(devices or jax.devices())
    )
    if math.prod(n + 2 for n in oversized_shape(shape, settings.augment)) >= 2**31:
        raise InputError(
            f"sampling.patch_shape = {list(shape)}: more voxels than 32 bits count; make it smaller"
        )
    platform = devices[0].platform if devices else None
    network = build_network(settings.network, shape, platform)
    optimizer = build_optimizer(settings.optimizer, train.epochs * train.batches)
    loss = partial(deep_supervision_loss, settings=settings.loss, axis_name=AXIS)
    augment = partial(
        augment_patches, seed=train.seed, patch_shape=shape, settings=settings.augment
    )
    train_one = partial(
        train_step, network=network, optimizer=optimizer, loss=loss, augment=augment,
        accumulation_steps=train.accumulation_steps, axis_name=AXIS,
    )  # fmt: skip
    eval_one = partial(eval_step, network=network, loss=loss, axis_name=AXIS)
    return Program(
        network,
        optimizer,
        jax.pmap(train_one, axis_name=AXIS, donate_argnums=0, devices=devices),
        jax.pmap(eval_one, axis_name=AXIS, devices=devices),
    )


def lower_train_step(
    settings: Settings,
    program: Program,
    state: TrainState,
    devices: Sequence[jax.Device] | None = None,
) -> Any:
    """The train step before its compilation, for XLA's analysis.

    Compiled for this machine's devices, the compilation cache hands it on to the run.

    Args:
        state: of one device, arrays or their shapes.
        devices: as in `build_program`.
    """
    local = len(devices) if devices else jax.local_device_count()
    share = settings.sampling.batch_size // len(devices or jax.devices())
    source = oversized_shape(settings.sampling.patch_shape, settings.augment)
    image = jax.ShapeDtypeStruct((local, share, *source), settings.preprocess.dtype)
    batch = {
        "image": image,
        "label": image.update(dtype=jnp.uint8),
        "index": jax.ShapeDtypeStruct((local, share), jnp.int32),
    }
    states = jax.tree.map(lambda x: jax.ShapeDtypeStruct((local, *x.shape), x.dtype), state)
    return program.train_step.lower(states, batch)  # type: ignore[attr-defined]
