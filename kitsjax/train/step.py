"""The train and eval step: pure functions of what they are given, for jit and for pmap."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from kitsjax.errors import InputError
from kitsjax.model.pseudo_dice import dice_counts
from kitsjax.settings import AugmentSettings
from kitsjax.train.augment import augment_batch
from kitsjax.types import Shape

AXIS = "device"
"""The program's name of the axis that pmap maps the steps over."""

Params = Any
Metrics = dict[str, Array]
DeviceBatch = Mapping[str, Array]
Outputs = tuple[Float[Array, "b _ _ _ classes"], ...]
Image = Float[Array, "b z y x"]
Label = Int32[Array, "b z y x"]
Loss = Callable[[Outputs, Label], Float[Array, ""]]
Augment = Callable[[DeviceBatch], tuple[Image, Label]]
Tree = TypeVar("Tree")


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, as a pytree.

    Attributes:
        step: optimizer steps taken.
        params: the network's parameters, float32.
        opt_state: the optimizer's memory, such as its momentum.
    """

    step: Int32[Array, ""]
    params: Params
    opt_state: optax.OptState


def init_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    patch_shape: Shape = (256, 256, 256),
) -> TrainState:
    """The state before the first step: parameters drawn from the seed, an empty optimizer.

    Args:
        network: maps (b, z, y, x, 1) to a tuple of logits, finest first, and has parameters only
            (no batch statistics, no dropout): `kitsjax.model.unet.UNet`, or a reader's own.
        seed: the same seed gives the same parameters, to the bit.
        patch_shape: (z, y, x) in voxels; to be given only if the parameters' shapes depend on it,
            which those of a fully convolutional network do not. Nothing of this size is computed.
    """
    return _init_state(network, optimizer, jax.random.key(seed), patch_shape)


@partial(jax.jit, static_argnums=(0, 1, 3))
def _init_state(
    network: nn.Module, optimizer: optax.GradientTransformation, key: Array, patch_shape: Shape
) -> TrainState:
    image = jax.ShapeDtypeStruct((1, *patch_shape, 1), jnp.float32)
    params = network.lazy_init(key, image)["params"]
    return TrainState(jnp.int32(0), params, optimizer.init(params))


def train_step(
    state: TrainState,
    batch: DeviceBatch,
    *,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    augment: Augment | None = None,
    accumulation_steps: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of gradient descent: (state, batch) -> (state, metrics), for jit or pmap.

    Args:
        state: from `init_state` or an earlier step.
        batch: image (b, z, y, x), normalized intensities of any float type, and label (b, z, y, x),
            class values of any integer type; index (b,) int32 too if `augment` wants one. Under
            pmap, this device's equal share of the global batch.
        network: as in `init_state`.
        optimizer: the one that the state was made with; its updates are added to the parameters.
        loss: (outputs, label) -> float32 scalar to be made small, with outputs a tuple of logits
            (b, z, y, x, class) float32, finest first (at deep supervision the others are coarser),
            and label (b, z, y, x) int32. To be a mean over the batch if devices or micro-batches
            share it, as their gradients are averaged.
        augment: batch -> (image float32, label int32), pure: its randomness from the batch, as in
            `augment_patches`. None: the patches as they are.
        accumulation_steps: micro-batches to take the batch in, one after another, to save memory; their
            gradients are averaged. Must divide b. A Dice over the whole batch
            (loss.dice_per_batch) is then one over each micro-batch.
        axis_name: the mapped axis under pmap, over which gradients and metrics are averaged; None
            under plain jit.

    Returns:
        The next state, and metrics, float32 scalars, equal on all devices: `loss`, the mean over
        the global batch before the update, and `grad_norm`, the gradient's global norm as the
        optimizer gets it, so before any clipping.

    Raises:
        InputError: while compiling: `accumulation_steps` does not divide the batch, or the network's output
            is not a tuple.

    Compile it once and feed it anything that yields batches; the old state's memory is reused:

        def loss(outputs, label):
            logits = outputs[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        network, optimizer = UNet(stage_features=(8, 16), deep_supervision=1), optax.adam(1e-2)
        state = kj.init_state(network, optimizer, seed=0)
        step = partial(kj.train_step, network=network, optimizer=optimizer, loss=loss)
        step = jax.jit(step, donate_argnums=0)
        for batch in batches:
            state, metrics = step(state, batch)
    """

    def part_loss(params: Params, part: DeviceBatch) -> Array:
        image, label = (augment or _as_they_are)(part)
        return loss(_apply(network, params, image), label)

    gradient = partial(jax.value_and_grad(part_loss), state.params)
    value, grads = _mean_over_devices(
        _mean_over_parts(gradient, batch, accumulation_steps), axis_name
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, opt_state), metrics


def eval_step(
    params: Params,
    batch: DeviceBatch,
    *,
    network: nn.Module,
    loss: Loss,
    axis_name: str | None = None,
) -> Metrics:
    """One batch of validation, patches as they are: (params, batch) -> metrics, for jit or pmap.

    Args:
        params: `state.params`.
        batch, network, loss, axis_name: as in `train_step`; no index is needed.

    Returns:
        Equal on all devices: `loss`, the mean over the global batch, and `counts` (class, 3)
        float32, voxels of the global batch that are true positives, false positives and false
        negatives of the finest output's argmax. Summed over batches, counts[c] gives class c's
        Dice, 2 TP / (2 TP + FP + FN), and `kitsjax.model.pseudo_dice.pseudo_dice` their mean.
    """
    image, label = _as_they_are(batch)
    outputs = _apply(network, params, image)
    value, counts = loss(outputs, label), dice_counts(outputs[0], label)
    if axis_name is not None:
        counts = jax.lax.psum(counts, axis_name)
    return {"loss": _mean_over_devices(value, axis_name), "counts": counts}


def sample_keys(seed: int, index: Int32[Array, " b"]) -> PRNGKeyArray:
    """A random key a sample, from (seed, index) alone: whatever the device, batch or restart."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)


def augment_patches(
    batch: DeviceBatch, *, seed: int, patch_shape: Shape, settings: AugmentSettings
) -> tuple[Image, Label]:
    """The paper's augmentation (A1), for `train_step` once all but the batch is bound.

    Args:
        batch: image and label (b, Z, Y, X), the patches with the margin that
            `kitsjax.train.augment.oversized_shape(patch_shape, settings)` asks for; index (b,).
        seed: with a sample's index it decides that sample's augmentation.
        patch_shape: (z, y, x) in voxels that the network gets.
    """
    keys = sample_keys(seed, batch["index"])
    return augment_batch(keys, batch["image"], batch["label"], patch_shape, settings)


def check_batch(batch_size: int, accumulation_steps: int, devices: int) -> None:
    """Refuse a global batch that cannot be shared out over all devices of all hosts.

    Raises:
        InputError: with the nearest size that can.
    """
    unit = devices * accumulation_steps
    if batch_size % unit:
        raise InputError(
            f"sampling.batch_size = {batch_size} cannot be divided over {devices} device(s) with "
            f"train.accumulation_steps = {accumulation_steps}; use a multiple of {unit}, such as "
            f"{-(-batch_size // unit) * unit}"
        )


def replicate(tree: Tree) -> Tree:
    """A copy on each of this host's devices, (devices, ...), to be handed to a step under pmap.

    Laid out as the steps lay out their own results: for another layout, such as that of Flax's
    function of this name, the second step would compile once more.
    """
    devices = jax.local_device_count()
    copies = jax.tree.map(lambda x: np.broadcast_to(x, (devices, *np.shape(x))), tree)
    placed: Tree = jax.pmap(lambda x: x, axis_name=AXIS)(copies)
    return placed


def shard(batch: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """A host's batch (b, ...) as (devices, b / devices, ...)."""
    return {k: v.reshape(devices, v.shape[0] // devices, *v.shape[1:]) for k, v in batch.items()}


def _as_they_are(batch: DeviceBatch) -> tuple[Image, Label]:
    return batch["image"].astype(jnp.float32), batch["label"].astype(jnp.int32)


def _apply(network: nn.Module, params: Params, image: Image) -> Outputs:
    outputs = network.apply({"params": params}, image[..., None])
    # Of a bare array, outputs[0] would be the logits of the batch's first sample.
    if not isinstance(outputs, tuple):
        raise InputError(
            f"{type(network).__name__} returns {type(outputs).__name__}; make it return a tuple of "
            "logits, finest first"
        )
    return outputs


def _mean_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _mean_over_parts(function: Callable[[DeviceBatch], Any], batch: DeviceBatch, parts: int) -> Any:
    """Mean of `function` over equal parts of a batch, one after another to save memory."""
    if parts == 1:
        return function(batch)
    size = len(batch["image"])
    if size % parts:
        raise InputError(
            f"accumulation_steps = {parts} does not divide a batch of {size}; choose another"
        )
    stacked = {k: v.reshape(parts, v.shape[0] // parts, *v.shape[1:]) for k, v in batch.items()}
    first = {k: v[0] for k, v in stacked.items()}
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))

    def add(sums: Any, part: DeviceBatch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    sums, _ = jax.lax.scan(add, zeros, stacked)
    return jax.tree.map(lambda total: total / parts, sums)
