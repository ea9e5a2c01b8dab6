"""The train and eval step: pure functions per device with collectives, mapped with pmap."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import flax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32

from kitsjax.config import AugmentSettings, LossSettings
from kitsjax.data.patches import Shape
from kitsjax.errors import InputError
from kitsjax.model.losses import deep_supervision_loss, dice_counts
from kitsjax.model.unet import UNet
from kitsjax.train.augment import augment_batch

AXIS = "device"

Params = Any
Metrics = dict[str, Array]
DeviceBatch = Mapping[str, Array]


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes: parameters, the optimizer's memory, the step's number."""

    step: Int32[Array, ""]
    params: Params
    opt_state: optax.OptState


def init_state(network: UNet, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """Parameters drawn from the seed; their shapes do not depend on the patch."""
    edge = 2 ** (len(network.stage_features) - 1)

    @jax.jit
    def init(key: Array) -> TrainState:
        # Two voxels at the bottleneck: an instance norm over one would be constant.
        params = network.init(key, jnp.zeros((1, 2 * edge, 2 * edge, 2 * edge, 1)))["params"]
        return TrainState(jnp.int32(0), params, optimizer.init(params))

    return init(jax.random.key(seed))


def make_train_step(
    network: UNet,
    optimizer: optax.GradientTransformation,
    loss: LossSettings,
    augmentation: AugmentSettings,
    patch_shape: Shape,
    *,
    accumulate: int = 1,
    seed: int = 0,
) -> Callable[[TrainState, DeviceBatch], tuple[TrainState, Metrics]]:
    """One step of one device, to be mapped over `AXIS`: (state, batch) -> (state, metrics).

    The batch holds source patches: image (b, Z, Y, X), label (b, Z, Y, X), index (b,). Every
    sample's augmentation follows from (seed, index) alone. With `accumulate` > 1 the batch is
    taken in that many micro-batches whose gradients are averaged; a Dice over the whole batch
    (loss.dice_per_batch) is then one over each micro-batch.

    Metrics, equal on all devices: loss, and grad_norm before clipping.
    """

    def part_loss(params: Params, batch: DeviceBatch) -> Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(batch["index"])
        image, label = augment_batch(
            keys, batch["image"], batch["label"], patch_shape, augmentation
        )
        return deep_supervision_loss(_apply(network, params, image), label, loss, AXIS)

    def step(state: TrainState, batch: DeviceBatch) -> tuple[TrainState, Metrics]:
        gradient = partial(jax.value_and_grad(part_loss), state.params)
        value, grads = jax.lax.pmean(_mean_over_parts(gradient, batch, accumulate), AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def make_eval_step(network: UNet, loss: LossSettings) -> Callable[[Params, DeviceBatch], Metrics]:
    """One validation batch of one device: patches as they are, no augmentation.

    Metrics, equal on all devices: loss, and counts (classes, 3) of TP, FP, FN over the global
    batch.
    """

    def step(params: Params, batch: DeviceBatch) -> Metrics:
        label = batch["label"].astype(jnp.int32)
        outputs = _apply(network, params, batch["image"].astype(jnp.float32))
        value = deep_supervision_loss(outputs, label, loss, AXIS)
        counts = jax.lax.psum(dice_counts(outputs[0], label), AXIS)
        return {"loss": jax.lax.pmean(value, AXIS), "counts": counts}

    return step


def check_batch(batch_size: int, accumulate: int, devices: int) -> None:
    """Refuse a global batch that cannot be shared out over all devices of all hosts.

    Raises:
        InputError: with the nearest size that can.
    """
    unit = devices * accumulate
    if batch_size % unit:
        raise InputError(
            f"sampling.batch_size = {batch_size} cannot be divided over {devices} device(s) with "
            f"train.accumulate = {accumulate}; use a multiple of {unit}, such as "
            f"{-(-batch_size // unit) * unit}"
        )


def shard(batch: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """A host's batch (b, ...) as (devices, b / devices, ...)."""
    return {k: v.reshape(devices, v.shape[0] // devices, *v.shape[1:]) for k, v in batch.items()}


def _apply(
    network: UNet, params: Params, image: Float[Array, "b z y x"]
) -> tuple[Float[Array, "b _ _ _ classes"], ...]:
    return cast(tuple[Array, ...], network.apply({"params": params}, image[..., None]))


def _mean_over_parts(function: Callable[[DeviceBatch], Any], batch: DeviceBatch, parts: int) -> Any:
    """Mean of `function` over equal parts of a batch, one after another to save memory."""
    if parts == 1:
        return function(batch)
    stacked = {k: v.reshape(parts, v.shape[0] // parts, *v.shape[1:]) for k, v in batch.items()}
    first = {k: v[0] for k, v in stacked.items()}
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))

    def add(sums: Any, part: DeviceBatch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    sums, _ = jax.lax.scan(add, zeros, stacked)
    return jax.tree.map(lambda total: total / parts, sums)
