"""The pure part of a run, mapped over the devices, and what XLA says that it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet, build_network
from kitsjax.settings import Settings
from kitsjax.train.augment import source_shape
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


def build_program(settings: Settings) -> Program:
    """The program that the settings describe, not yet compiled.

    Raises:
        InputError: the patch, the heads or the batch do not fit the network or the devices.
    """
    train, shape = settings.train, settings.sampling.patch_shape
    check_batch(settings.sampling.batch_size, train.accumulate, jax.device_count())
    network = build_network(settings.network, shape)
    optimizer = build_optimizer(settings.optimizer, train.epochs * train.batches)
    loss = partial(deep_supervision_loss, settings=settings.loss, axis_name=AXIS)
    augment = partial(
        augment_patches, seed=train.seed, patch_shape=shape, settings=settings.augment
    )
    train_one = partial(
        train_step, network=network, optimizer=optimizer, loss=loss, augment=augment,
        accumulate=train.accumulate, axis_name=AXIS,
    )  # fmt: skip
    eval_one = partial(eval_step, network=network, loss=loss, axis_name=AXIS)
    return Program(
        network,
        optimizer,
        jax.pmap(train_one, axis_name=AXIS, donate_argnums=0),
        jax.pmap(eval_one, axis_name=AXIS),
    )


def compile_train_step(settings: Settings, program: Program, state: TrainState) -> Any:
    """The compiled train step for XLA's analysis; the compilation cache hands it on to the run.

    Args:
        state: of one device, arrays or their shapes.
    """
    devices, sampling = jax.local_device_count(), settings.sampling
    share = sampling.batch_size // jax.device_count()
    source = source_shape(sampling.patch_shape, settings.augment)
    image = jax.ShapeDtypeStruct((devices, share, *source), settings.preprocess.dtype)
    batch = {
        "image": image,
        "label": image.update(dtype=jnp.uint8),
        "index": jax.ShapeDtypeStruct((devices, share), jnp.int32),
    }
    states = jax.tree.map(lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype), state)
    return program.train_step.lower(states, batch).compile()  # type: ignore[attr-defined]
