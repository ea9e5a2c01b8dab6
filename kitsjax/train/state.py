"""The state of training: what a step changes, and how it begins."""

from functools import partial

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from kitsjax.errors import InputError
from kitsjax.model.arrays import Params
from kitsjax.model.compiling import JitByPlatform
from kitsjax.types import Shape


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, as a pytree.

    Attributes:
        step: optimizer steps taken.
        params: the network's parameters, float32.
        opt_state: the optimizer's state, such as its momentum.
        average: exponential moving average of `params`; None if none is kept.
    """

    step: Int32[Array, ""]
    params: Params
    opt_state: optax.OptState
    average: Params | None = None

    @property
    def kept(self) -> Params:
        """The parameters to validate and to keep: the average where there is one."""
        return self.params if self.average is None else self.average


def init_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    patch_shape: Shape = (256, 256, 256),
    average: bool = False,
) -> TrainState:
    """Make the state before the first step: random parameters and an empty optimizer state.

    Args:
        network: maps (b, z, y, x, 1) to a tuple of logits, finest first. It has parameters only
            (no batch statistics, no dropout): `kitsjax.model.unet.UNet`, or your own.
        optimizer: its updates will be added to the parameters.
        seed: the same seed gives the same parameters, to the bit.
        patch_shape: (z, y, x) in voxels. Give it only if the shapes of the parameters depend on
            it; those of a fully convolutional network do not. Nothing of this size is computed.
        average: keep a moving average of the parameters, for `train_step` with `ema_decay`.
    """
    state = _init_state(network, optimizer, jax.random.key(seed), patch_shape)
    # A copy, since a step that may reuse the state's memory cannot get one array twice.
    return state.replace(average=jax.tree.map(jnp.copy, state.params)) if average else state


@partial(JitByPlatform, static_argnames=("network", "optimizer", "patch_shape"))
def _init_state(
    network: nn.Module, optimizer: optax.GradientTransformation, key: Array, patch_shape: Shape
) -> TrainState:
    image = jax.ShapeDtypeStruct((1, *patch_shape, 1), jnp.float32)
    params = network.lazy_init(key, image)["params"]
    return TrainState(jnp.int32(0), params, optimizer.init(params))


def update_average(state: TrainState, params: Params, decay: float) -> Params | None:
    """Move the average toward new parameters by 1 - min(decay, (1 + t) / (10 + t)), t = step.

    The decay grows from 0.1, as in TensorFlow's ExponentialMovingAverage, so that the random
    parameters of the beginning are soon forgotten.
    """
    if (state.average is None) == bool(decay):
        raise InputError(
            f"ema_decay = {decay}, but the state holds {'no' if decay else 'an'} average; make it "
            f"with init_state(..., average={bool(decay)})"
        )
    if state.average is None:
        return None
    step = state.step.astype(jnp.float32)
    rate = 1 - jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: old + rate * (new - old), state.average, params)
