"""The train and the eval step: pure functions of their arguments, for jit and for pmap."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from kitsjax.errors import InputError
from kitsjax.labels import KITS, LabelScheme
from kitsjax.model.arrays import Image, Label, Outputs, Params, Scalar
from kitsjax.model.pseudo_dice import dice_counts
from kitsjax.model.regions import predicts_regions
from kitsjax.train.state import TrainState, update_average

Metrics = dict[str, Array]
"""Float32 arrays by name; `train_step` and `eval_step` say which."""

DeviceBatch = Mapping[str, Array]
"""A device's share of a batch, arrays by name; `train_step` says which."""

Tree = TypeVar("Tree")


class Loss(Protocol):
    """A loss to minimize; `train_step` describes it in full."""

    def __call__(self, outputs: Outputs, label: Label, /) -> Scalar:
        """Compute the mean loss of a batch."""


class Augment(Protocol):
    """A pure augmentation; `train_step` describes it in full."""

    def __call__(self, batch: DeviceBatch, /) -> tuple[Image, Label]:
        """Augment a batch."""


def train_step(
    state: TrainState,
    batch: DeviceBatch,
    *,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    augment: Augment | None = None,
    accumulation_steps: int = 1,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Take one step of gradient descent: (state, batch) -> (state, metrics), for jit or pmap.

    Args:
        state: from `init_state` or an earlier step.
        batch: image (b, z, y, x), normalized intensities of any float type, and label (b, z, y, x),
            class values of any integer type; also index (b,) int32 if `augment` needs it. Under
            pmap, this device's equal share of the global batch.
        network: the one that the state was made with.
        optimizer: the one that the state was made with; its updates are added to the parameters.
        loss: (outputs, label) -> float32 scalar to minimize. Outputs are a tuple of float32 logits
            (b, z, y, x, class), finest first (with deep supervision the others are coarser), and
            label is (b, z, y, x) int32. It must be a mean over the batch if devices or
            micro-batches share the batch, since their gradients are averaged.
        augment: batch -> (image float32, label int32). It is pure: its randomness comes from the
            batch, as in `augment_patches`. None: the patches are used as they are.
        accumulation_steps: number of micro-batches, which must divide b. They are computed one
            after another to save memory, and their gradients are averaged. A Dice over the whole
            batch (loss.dice_per_batch) then becomes a Dice over each micro-batch.
        ema_decay: decay of the moving average of the parameters, which the state must hold then
            (`init_state` with `average`); 0: none is kept.
        axis_name: the mapped axis under pmap, over which gradients and metrics are averaged; None
            under plain jit.

    Returns:
        The next state, and metrics: float32 scalars, equal on all devices. `loss` is the mean over
        the global batch before the update. `grad_norm` is the global norm of the gradient that the
        optimizer gets, before any clipping.

    Raises:
        InputError: while compiling, if `accumulation_steps` does not divide the batch, if the
            network's output is not a tuple, or if only one of `ema_decay` and `state.average` is
            there.

    Compile it once and feed it anything that yields batches; the old state's memory is reused:

        def loss(outputs, label):
            logits = outputs[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        network, optimizer = UNet((8, 16), deep_supervision=1, classes=4), optax.adam(1e-2)
        state = kj.init_state(network, optimizer, seed=0)
        step = partial(kj.train_step, network=network, optimizer=optimizer, loss=loss)
        step = jax.jit(step, donate_argnums=0)
        for batch in batches:
            state, metrics = step(state, batch)
    """

    def batch_loss(params: Params, batch: DeviceBatch) -> Scalar:
        image, label = (augment or _without_augmentation)(batch)
        return loss(_apply(network, params, image), label)

    gradient = partial(jax.value_and_grad(batch_loss), state.params)
    averaged = _mean_over_micro_batches(gradient, batch, accumulation_steps)
    value, grads = _mean_over_devices(averaged, axis_name)
    # Optax mixes integers and floats, which a user's strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
    average = update_average(state, params, ema_decay)
    return TrainState(state.step + 1, params, opt_state, average), metrics


def eval_step(
    params: Params,
    batch: DeviceBatch,
    *,
    network: nn.Module,
    loss: Loss,
    scheme: LabelScheme = KITS,
    axis_name: str | None = None,
) -> Metrics:
    """Evaluate one batch of validation patches: (params, batch) -> metrics, for jit or pmap.

    Args:
        params: `state.kept`.
        batch: image and label (b, z, y, x), as `train_step` takes them.
        network: the one that the parameters belong to.
        loss: (outputs, label) -> float32 scalar, as `train_step` takes it.
        scheme: what the values of the label mean; voxels of its `ignore` are not counted.
        axis_name: the mapped axis under pmap; None under plain jit.

    Returns:
        Metrics, equal on all devices. `loss` is the mean over the global batch. `counts`
        (class, 3) float32 are the true positive, false positive and false negative voxels of the
        global batch, from the argmax of the finest output (from the most probable class if the
        network's field `regions` says that its logits are of regions). Summed over batches,
        counts[c] gives the Dice of class c, 2 TP / (2 TP + FP + FN), and `pseudo_dice.pseudo_dice`
        gives the mean over classes.
    """
    image, label = _without_augmentation(batch)
    outputs = _apply(network, params, image)
    value = loss(outputs, label)
    counts = dice_counts(outputs[0], label, scheme, regions=predicts_regions(network))
    if axis_name is not None:
        counts = jax.lax.psum(counts, axis_name)
    return {"loss": _mean_over_devices(value, axis_name), "counts": counts}


def _without_augmentation(batch: DeviceBatch) -> tuple[Image, Label]:
    return batch["image"].astype(jnp.float32), batch["label"].astype(jnp.int32)


def _apply(network: nn.Module, params: Params, image: Image) -> Outputs:
    outputs = network.apply({"params": params}, image[..., None])
    # With a bare array, outputs[0] would be the logits of the batch's first sample.
    if not isinstance(outputs, tuple):
        raise InputError(
            f"{type(network).__name__} returns {type(outputs).__name__}; make it return a tuple of "
            "logits, finest first"
        )
    return outputs


def _mean_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _mean_over_micro_batches(
    function: Callable[[DeviceBatch], Tree], batch: DeviceBatch, steps: int
) -> Tree:
    """Average a function over the micro-batches of a batch, one after another to save memory."""
    if steps == 1:
        return function(batch)
    size = len(batch["image"])
    if size % steps:
        raise InputError(
            f"accumulation_steps = {steps} does not divide a batch of {size}; choose another"
        )
    stacked = {k: v.reshape(steps, -1, *v.shape[1:]) for k, v in batch.items()}

    def compute(number: Int32[Array, "1"]) -> Tree:
        return function({name: array[number[0]] for name, array in stacked.items()})

    # Map over indices: given the batch itself, optax.microbatch would transpose it and mix samples.
    mean = optax.microbatching.AccumulationType.MEAN
    return optax.microbatch(compute, 0, 1, mean)(jnp.arange(steps))
