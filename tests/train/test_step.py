"""The steps under pmap on eight forced devices (tests/conftest.py), and in a loop of one's own."""

import textwrap
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import jax_utils

import kitsjax as kj
from kitsjax.errors import InputError
from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet, build_network
from kitsjax.settings import AugmentSettings, LossSettings, NetworkSettings, OptimizerSettings
from kitsjax.train.augment import augment_patches, oversized_shape, sample_keys
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.sharding import AXIS, shard
from kitsjax.train.step import eval_step, init_state, train_step

SHAPE = (16, 16, 16)
AUGMENT = AugmentSettings()


def make(per_batch=True, accumulation_steps=1):
    """Make the state and the steps of a run, to be mapped over AXIS."""
    # Two stages and two channels have all that devices share; direct convolutions compile fastest.
    settings = NetworkSettings(features=2, smallest=8, deep_supervision=1, convolution="direct")
    network = build_network(settings, SHAPE)
    optimizer = build_optimizer(OptimizerSettings(learning_rate=0.01), 10)
    settings = LossSettings(dice_per_batch=per_batch)
    loss = partial(deep_supervision_loss, settings=settings, axis_name=AXIS)
    augment = partial(augment_patches, seed=5, patch_shape=SHAPE, settings=AUGMENT)
    step = partial(
        train_step, network=network, optimizer=optimizer, loss=loss, augment=augment,
        accumulation_steps=accumulation_steps, axis_name=AXIS,
    )  # fmt: skip
    evaluate = partial(eval_step, network=network, loss=loss, axis_name=AXIS)
    return init_state(network, optimizer, 0), step, evaluate


def make_batch(number, size=8):
    rng = np.random.default_rng(number)
    source = (size, *oversized_shape(SHAPE, AUGMENT))
    return {
        "image": rng.normal(size=source).astype(np.float16),
        "label": rng.integers(0, 4, source).astype(np.uint8),
        "index": np.arange(number * size, number * size + size, dtype=np.int32),
    }


@cache
def run(devices, per_batch, accumulation_steps=1, steps=3):
    """Take steps on the first devices; return the last state and the losses."""
    devices = jax.devices()[:devices]
    state, step, _ = make(per_batch, accumulation_steps)
    mapped = jax.pmap(step, axis_name=AXIS, devices=devices, donate_argnums=0)
    state, losses = jax_utils.replicate(state, devices), []
    for number in range(steps):
        state, metrics = mapped(state, shard(make_batch(number), len(devices)))
        losses.append(float(metrics["loss"][0]))
    return jax.tree.map(lambda x: np.asarray(x)[0], state), losses


def largest_difference(a, b):
    return max(
        float(np.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("per_batch", [True, False])
def test_eight_devices_equal_one(per_batch):
    assert jax.device_count() >= 8
    one, one_losses = run(1, per_batch)
    eight, eight_losses = run(8, per_batch)
    assert np.allclose(one_losses, eight_losses, atol=1e-5)
    start, _, _ = make()
    moved = largest_difference(one.params, start.params)
    assert moved > 1e-3, "nothing was learned, so nothing was compared"
    assert largest_difference(one.params, eight.params) < 1e-3 * moved
    assert int(one.step) == int(eight.step) == 3


@pytest.mark.slow
def test_accumulation_averages_gradients():
    # A Dice per sample and cross-entropy are means over samples, so micro-batches average to them.
    whole, whole_losses = run(1, per_batch=False)
    parts, part_losses = run(1, per_batch=False, accumulation_steps=4)
    assert np.allclose(whole_losses, part_losses, atol=1e-5)
    start, _, _ = make()
    assert largest_difference(whole.params, parts.params) < 1e-3 * largest_difference(
        whole.params, start.params
    )


def test_augmentation_follows_from_the_index():
    state, step, _ = make()
    mapped = jax.pmap(step, axis_name=AXIS, devices=jax.devices()[:1])
    state = jax_utils.replicate(state, jax.devices()[:1])

    def loss(index):
        batch = make_batch(0, size=2) | {"index": np.asarray(index, np.int32)}
        return float(mapped(state, shard(batch, 1))[1]["loss"][0])

    assert loss([3, 4]) == loss([3, 4]) != loss([5, 6])


def test_eval_counts_every_voxel_once():
    state, _, eval_step = make()
    devices = jax.devices()[:4]
    mapped = jax.pmap(eval_step, axis_name=AXIS, devices=devices)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(4, *SHAPE)).astype(np.float16),
        "label": rng.integers(0, 4, (4, *SHAPE)).astype(np.uint8),
    }
    metrics = mapped(jax_utils.replicate(state.params, devices), shard(batch, 4))
    counts = np.asarray(metrics["counts"][0])
    true = np.bincount(batch["label"].ravel(), minlength=4)
    assert (counts[:, 0] + counts[:, 2] == true).all()
    assert counts[:, 0].sum() + counts[:, 1].sum() == batch["label"].size


class Small(nn.Module):
    """A user's own network: its parameters depend on the patch, and it has one output."""

    @nn.compact
    def __call__(self, x):
        position = self.param("position", nn.initializers.normal(), (1, *x.shape[1:4], 1))
        hidden = nn.relu(nn.Dense(4)(x + position))
        return (nn.Dense(4)(hidden),)


def focal_loss(outputs, label):
    """Lin et al. 2017, gamma 2, mean over the batch."""
    log_chance = jnp.take_along_axis(jax.nn.log_softmax(outputs[0]), label[..., None], -1)
    return -((1 - jnp.exp(log_chance)) ** 2 * log_chance).mean()


def noisy(batch):
    """A user's own augmentation, which depends on the index alone."""
    keys = sample_keys(3, batch["index"])
    noise = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 8)))(keys)
    return batch["image"] + noise, batch["label"].astype(jnp.int32)


def small_batch(number, size=4):
    image = np.random.default_rng(number).normal(size=(size, 8, 8, 8)).astype(np.float32)
    index = np.arange(number * size, number * size + size, dtype=np.int32)
    return {"image": image, "label": (image > 0.5).astype(np.uint8), "index": index}


def small_run(compiled, state, devices=0, steps=3):
    """Run a user's own loop (0 devices: jit); return the last state and every step's metrics."""
    rows = []
    state = jax_utils.replicate(state, jax.devices()[:devices]) if devices else state
    for number in range(steps):
        batch = small_batch(number)
        state, metrics = compiled(state, shard(batch, devices) if devices else batch)
        rows.append([float(value.ravel()[-1]) for value in metrics.values()])
    return (jax_utils.unreplicate(state) if devices else state), np.array(rows)


def test_own_pieces_under_jit_pmap_accumulation():
    """A user's own network, loss and augmentation give the same under all three."""
    network, optimizer = Small(), optax.adam(1e-2)
    state = init_state(network, optimizer, 0, patch_shape=(8, 8, 8))
    step = partial(train_step, network=network, optimizer=optimizer, loss=focal_loss, augment=noisy)
    two = jax.devices()[:2]
    mapped = jax.pmap(partial(step, axis_name="half"), axis_name="half", devices=two)
    one, rows = small_run(jax.jit(step), state)
    for other, other_rows in (
        small_run(mapped, state, devices=2),
        small_run(jax.jit(partial(step, accumulation_steps=2)), state),
    ):
        assert np.allclose(rows, other_rows, rtol=1e-5)
        assert largest_difference(one.params, other.params) < 1e-5
        assert int(one.step) == int(other.step) == 3
    assert largest_difference(one.params, state.params) > 1e-2
    _, plain = small_run(jax.jit(partial(step, augment=None)), state)
    assert abs(plain[0, 0] - rows[0, 0]) > 1e-4, "the augmentation did nothing"


def test_example_of_train_step_learns():
    example = textwrap.dedent(train_step.__doc__.split("reused:\n\n")[1])
    batch = small_batch(0)
    names = {
        "jax": jax, "optax": optax, "kj": kj, "partial": partial, "UNet": UNet,
        "batches": [batch] * 20,
    }  # fmt: skip
    exec(example, names)
    start = init_state(names["network"], names["optimizer"], 0).params
    evaluate = jax.jit(partial(eval_step, network=names["network"], loss=names["loss"]))
    before, after = evaluate(start, batch), evaluate(names["state"].params, batch)
    assert int(names["state"].step) == 20
    assert float(after["loss"]) < 0.5 * float(before["loss"])
    assert float(after["counts"].sum()) == batch["label"].size + float(after["counts"][:, 1].sum())


def test_errors_of_an_own_loop_say_what_to_do():
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x)

    optimizer, batch = optax.sgd(0.1), small_batch(0)
    for network, accumulation_steps, words in (
        (Bare(), 1, "Bare.*tuple"),
        (Small(), 3, "batch of 4"),
    ):
        state = init_state(network, optimizer, 0, patch_shape=(8, 8, 8))
        with pytest.raises(InputError, match=words):
            train_step(
                state, batch, network=network, optimizer=optimizer, loss=focal_loss,
                accumulation_steps=accumulation_steps,
            )  # fmt: skip
