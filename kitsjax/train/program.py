"""The compiled part of a run: network, optimizer and both steps, mapped over the devices."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kitsjax.config import choose_scheme
from kitsjax.errors import InputError
from kitsjax.labels import LabelScheme
from kitsjax.model.arrays import Params
from kitsjax.model.compiling import compile_program, use_options
from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet, build_network
from kitsjax.settings import Settings
from kitsjax.train.augment import augment_patches, oversized_shape
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.replication import AXIS, check_batch
from kitsjax.train.state import TrainState, init_state
from kitsjax.train.step import Metrics, eval_step, train_step


@dataclass(frozen=True)
class Program:
    """Network, optimizer and both steps of a run; pmap compiles a step at its first call.

    Attributes:
        scheme: the labels.
        network: the U-Net that the settings describe.
        optimizer: with the learning rate's schedule over the whole run.
        train_step: (state, batch) -> (state, metrics), each with a leading axis of devices; the
            old state's memory is reused.
        eval_step: (params, batch) -> metrics, likewise.
    """

    scheme: LabelScheme
    network: UNet
    optimizer: optax.GradientTransformation
    train_step: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
    eval_step: Callable[[Params, Any], Metrics]


def build_program(settings: Settings, devices: Sequence[jax.Device] | None = None) -> Program:
    """Build the program that the settings describe, without compiling it.

    Args:
        settings: all settings of the run.
        devices: the devices to compile for, which need not be in this machine; None: all devices
            of this run.

    Raises:
        InputError: the patch or the deep supervision does not fit the network, the batch does not
            fit the devices, or the settings do not fit the labels.
    """
    scheme = choose_scheme(settings)
    train, shape = settings.train, settings.sampling.patch_shape
    check_batch(
        settings.sampling.batch_size, train.accumulation_steps, len(devices or jax.devices())
    )
    # Augmentation numbers the voxels of an oversized patch, with a border of one, in 32 bits.
    if math.prod(n + 2 for n in oversized_shape(shape, settings.augment)) >= 2**31:
        raise InputError(
            f"sampling.patch_shape = {list(shape)}: more voxels than 32 bits count; make it smaller"
        )
    platform = devices[0].platform if devices else None
    network = build_network(
        settings.network, shape, platform, scheme=scheme, regions=settings.loss.regions
    )
    optimizer = build_optimizer(settings.optimizer, train.epochs * train.batches)
    loss = partial(deep_supervision_loss, settings=settings.loss, axis_name=AXIS, scheme=scheme)
    augment = partial(
        augment_patches, seed=train.seed, patch_shape=shape, settings=settings.augment
    )
    train_one = partial(
        train_step, network=network, optimizer=optimizer, loss=loss, augment=augment,
        accumulation_steps=train.accumulation_steps, ema_decay=train.ema_decay, axis_name=AXIS,
    )  # fmt: skip
    here = platform or jax.default_backend()
    eval_one = partial(eval_step, network=network, loss=loss, scheme=scheme, axis_name=AXIS)
    return Program(
        scheme,
        network,
        optimizer,
        use_options(jax.pmap(train_one, axis_name=AXIS, donate_argnums=0, devices=devices), here),
        use_options(jax.pmap(eval_one, axis_name=AXIS, devices=devices), here),
    )


def first_state(settings: Settings, program: Program) -> TrainState:
    """Make the state that a run of these settings begins with, without an axis of devices."""
    train = settings.train
    return init_state(program.network, program.optimizer, train.seed, average=train.ema_decay > 0)


def compile_train_step(
    settings: Settings, program: Program, state: TrainState
) -> tuple[Program, jax.stages.Compiled]:
    """Compile the train step for this run's devices; return a program that has it, and itself."""
    lowered = lower_train_step(settings, program, state)
    compiled = compile_program(lowered, jax.default_backend())
    return replace(program, train_step=compiled), compiled


def lower_train_step(
    settings: Settings,
    program: Program,
    state: TrainState,
    devices: Sequence[jax.Device] | None = None,
) -> Any:
    """Lower the train step, so that it can be compiled and analyzed without running it.

    Args:
        settings: all settings of the run.
        program: built of these settings.
        state: arrays or their shapes, without the leading axis of devices.
        devices: the devices to compile for, the same that the program was built for.

    Returns:
        What `jax.jit(f).lower(...)` returns.
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
