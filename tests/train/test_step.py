"""The steps of a run on one device and on eight, and the steps in a reader's own training loop."""

import textwrap
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kitsjax as kj
from kitsjax.errors import InputError
from kitsjax.model.losses import deep_supervision_loss
from kitsjax.model.unet import UNet, build_network
from kitsjax.settings import AugmentSettings, LossSettings, NetworkSettings, OptimizerSettings
from kitsjax.train.augment import augment_patches, oversized_shape, sample_keys
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.replication import AXIS, shard
from kitsjax.train.state import init_state
from kitsjax.train.step import eval_step, train_step

SHAPE = (8, 8, 8)
AUGMENT = AugmentSettings()
BATCH = 8

UNOPTIMIZED = {"xla_backend_optimization_level": 0}
"""Compiler options that halve the time to compile, which is most of the time of these tests."""

quick_jit = partial(jax.jit, compiler_options=UNOPTIMIZED)


@cache
def make_run():
    """The network, the optimizer and the first state of a run, and its augmentation."""
    network = build_network(NetworkSettings(features=4, smallest=2, deep_supervision=2), SHAPE)
    optimizer = build_optimizer(OptimizerSettings(learning_rate=0.01), 10)
    augment = partial(augment_patches, seed=5, patch_shape=SHAPE, settings=AUGMENT)
    return network, optimizer, init_state(network, optimizer, 0), augment


def make_batch(number):
    rng = np.random.default_rng(number)
    oversized = (BATCH, *oversized_shape(SHAPE, AUGMENT))
    return {
        "image": rng.normal(size=oversized).astype(np.float16),
        "label": rng.integers(0, 4, oversized).astype(np.uint8),
        "index": np.arange(number * BATCH, number * BATCH + BATCH, dtype=np.int32),
    }


def copy_to_devices(tree, devices):
    return jax.tree.map(lambda x: np.broadcast_to(x, (devices, *np.shape(x))), tree)


@cache
def compile_step(devices, *, per_batch, accumulation_steps=1):
    network, optimizer, state, augment = make_run()
    loss_settings = LossSettings(dice_per_batch=per_batch)
    loss = partial(deep_supervision_loss, settings=loss_settings, axis_name=AXIS)
    step = partial(
        train_step, network=network, optimizer=optimizer, loss=loss, augment=augment,
        accumulation_steps=accumulation_steps, axis_name=AXIS,
    )  # fmt: skip
    mapped = jax.pmap(step, axis_name=AXIS, devices=jax.devices()[:devices])
    lowered = mapped.lower(copy_to_devices(state, devices), shard(make_batch(0), devices))
    return lowered.compile(UNOPTIMIZED)


@cache
def take_steps(devices, *, per_batch, accumulation_steps=1):
    """The state and losses of three steps."""
    step = compile_step(devices, per_batch=per_batch, accumulation_steps=accumulation_steps)
    state, losses = copy_to_devices(make_run()[2], devices), []
    for number in range(3):
        state, metrics = step(state, shard(make_batch(number), devices))
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
    one, one_losses = take_steps(1, per_batch=per_batch)
    eight, eight_losses = take_steps(8, per_batch=per_batch)
    assert np.allclose(one_losses, eight_losses, atol=1e-5)
    moved = largest_difference(one.params, make_run()[2].params)
    assert moved > 1e-3, "nothing was learned, so nothing was compared"
    assert largest_difference(one.params, eight.params) < 1e-3 * moved
    assert int(one.step) == int(eight.step) == 3


@pytest.mark.slow
def test_accumulation_averages_gradients():
    # A Dice per sample and cross-entropy are means over samples, so their gradients average too.
    whole, whole_losses = take_steps(1, per_batch=False)
    parts, part_losses = take_steps(1, per_batch=False, accumulation_steps=4)
    assert np.allclose(whole_losses, part_losses, atol=1e-5)
    assert largest_difference(whole.params, parts.params) < 1e-3 * largest_difference(
        whole.params, make_run()[2].params
    )


@pytest.mark.slow
def test_augmentation_follows_from_the_index():
    step = compile_step(1, per_batch=False)
    state = copy_to_devices(make_run()[2], 1)

    def loss(first):
        batch = make_batch(0) | {"index": np.arange(first, first + BATCH, dtype=np.int32)}
        return float(step(state, shard(batch, 1))[1]["loss"][0])

    assert loss(3) == loss(3) != loss(5)


class Small(nn.Module):
    """A reader's own network: its parameters depend on the patch, and it has one output."""

    @nn.compact
    def __call__(self, x):
        position = self.param("position", nn.initializers.normal(), (1, *x.shape[1:4], 1))
        hidden = nn.relu(nn.Conv(4, (3, 3, 3))(x + position))
        return (nn.Dense(4)(hidden),)


def focal_loss(outputs, label):
    """Lin et al. 2017, gamma 2, mean over the batch."""
    log_chance = jnp.take_along_axis(jax.nn.log_softmax(outputs[0]), label[..., None], -1)
    return -((1 - jnp.exp(log_chance)) ** 2 * log_chance).mean()


def noisy(batch):
    """A reader's own augmentation, of the index alone."""
    keys = sample_keys(3, batch["index"])
    noise = jax.vmap(lambda key: jax.random.normal(key, SHAPE))(keys)
    return batch["image"] + noise, batch["label"].astype(jnp.int32)


def small_batch(number, size=4):
    image = np.random.default_rng(number).normal(size=(size, *SHAPE)).astype(np.float32)
    index = np.arange(number * size, number * size + size, dtype=np.int32)
    return {"image": image, "label": (image > 0.5).astype(np.uint8), "index": index}


def small_run(compiled, state, devices=0, steps=3):
    """A reader's own loop; 0 devices: jit. The last state and every step's metrics."""
    rows = []
    state = copy_to_devices(state, devices) if devices else state
    for number in range(steps):
        batch = small_batch(number)
        state, metrics = compiled(state, shard(batch, devices) if devices else batch)
        rows.append([float(value.ravel()[-1]) for value in metrics.values()])
    return (jax.tree.map(lambda x: x[0], state) if devices else state), np.array(rows)


def test_a_readers_own_pieces_fit_together():
    """Own network, loss and augmentation give the same under jit, pmap and accumulation."""
    network, optimizer = Small(), optax.adam(1e-2)
    state = init_state(network, optimizer, 0, patch_shape=SHAPE)
    step = partial(train_step, network=network, optimizer=optimizer, loss=focal_loss, augment=noisy)
    two = jax.devices()[:2]
    mapped = jax.pmap(partial(step, axis_name="half"), axis_name="half", devices=two)
    one, rows = small_run(quick_jit(step), state)
    for other, other_rows in (
        small_run(mapped, state, devices=2),
        small_run(quick_jit(partial(step, accumulation_steps=2)), state),
    ):
        assert np.allclose(rows, other_rows, rtol=1e-5)
        assert largest_difference(one.params, other.params) < 1e-5
        assert int(one.step) == int(other.step) == 3
    assert largest_difference(one.params, state.params) > 1e-2
    _, plain = small_run(quick_jit(partial(step, augment=None)), state, steps=1)
    assert abs(plain[0, 0] - rows[0, 0]) > 1e-4, "the augmentation did nothing"


def test_average_equals_a_loop_of_numpy():
    """Its decay grows from 0.1; the parameters are those of a step without an average."""
    network, optimizer, decay = Small(), optax.sgd(0.5), 0.3
    state = init_state(network, optimizer, 0, patch_shape=SHAPE, average=True)
    step = partial(train_step, network=network, optimizer=optimizer, loss=focal_loss)
    compiled = quick_jit(partial(step, ema_decay=decay), donate_argnums=0)
    plain = init_state(network, optimizer, 0, patch_shape=SHAPE)
    plain_step = quick_jit(step)
    expected = jax.tree.map(np.asarray, plain.params)
    for number, weight in enumerate((1 / 10, 2 / 11, 3 / 12, decay, decay)):
        state, _ = compiled(state, small_batch(number))
        plain, _ = plain_step(plain, small_batch(number))
        expected = jax.tree.map(
            lambda old, new, w=weight: w * old + (1 - w) * np.asarray(new), expected, plain.params
        )
        assert largest_difference(state.average, expected) < 1e-6
    assert largest_difference(state.params, plain.params) == 0
    assert largest_difference(state.kept, state.average) == 0
    assert largest_difference(state.average, state.params) > 1e-2
    assert plain.kept is plain.params


def test_an_average_is_the_same_on_two_devices():
    network, optimizer = Small(), optax.adam(1e-2)
    state = init_state(network, optimizer, 0, patch_shape=SHAPE, average=True)
    step = partial(train_step, network=network, optimizer=optimizer, loss=focal_loss, ema_decay=0.9)
    mapped = jax.pmap(partial(step, axis_name="half"), axis_name="half", devices=jax.devices()[:2])
    one, _ = small_run(quick_jit(step), state)
    two, _ = small_run(mapped, state, devices=2)
    assert largest_difference(one.average, two.average) < 1e-5
    assert largest_difference(one.average, one.params) > 1e-3


def test_without_an_average_nothing_is_computed(monkeypatch):
    network, optimizer = Small(), optax.sgd(0.5)
    state = init_state(network, optimizer, 0, patch_shape=SHAPE)
    step = partial(train_step, network=network, optimizer=optimizer, loss=focal_loss)

    def program(state, decay):
        return str(jax.make_jaxpr(partial(step, ema_decay=decay))(state, small_batch(0)))

    default = program(state, 0.0)
    averaged = state.replace(average=state.params)
    assert len(program(averaged, 0.5)) > len(default)
    monkeypatch.setattr("kitsjax.train.step.update_average", lambda *_: None)
    assert program(state, 0.0) == default


def test_accumulation_keeps_neighbors_together():
    """The micro-batches are the batch's consecutive parts, also for a loss that is no mean."""

    def spread_loss(outputs, label):
        logits = outputs[0]
        return (logits.max(axis=0) - logits.min(axis=0)).mean()

    network, optimizer, batch = Small(), optax.identity(), small_batch(0)
    state = init_state(network, optimizer, 0, patch_shape=SHAPE)
    step = quick_jit(
        partial(train_step, network=network, optimizer=optimizer, loss=spread_loss),
        static_argnames="accumulation_steps",
    )
    halves = [{k: v[part] for k, v in batch.items()} for part in (slice(0, 2), slice(2, 4))]
    expected = np.mean([step(state, half)[1]["loss"] for half in halves])
    found = step(state, batch, accumulation_steps=2)[1]["loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_eval_counts_every_voxel_once():
    network = Small()
    params = init_state(network, optax.identity(), 0, patch_shape=SHAPE).params
    step = partial(eval_step, network=network, loss=focal_loss, axis_name=AXIS)
    mapped = jax.pmap(step, axis_name=AXIS, devices=jax.devices()[:4])
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(4, *SHAPE)).astype(np.float16),
        "label": rng.integers(0, 4, (4, *SHAPE)).astype(np.uint8),
    }
    metrics = mapped(copy_to_devices(params, 4), shard(batch, 4))
    counts = np.asarray(metrics["counts"][0])
    true = np.bincount(batch["label"].ravel(), minlength=4)
    assert (counts[:, 0] + counts[:, 2] == true).all()
    assert counts[:, 0].sum() + counts[:, 1].sum() == batch["label"].size


def test_a_network_of_regions_learns_labels():
    """Also labels that no region has to itself, as the counts of its validation show."""
    settings = LossSettings(regions=True, dice_per_batch=True)
    loss = partial(deep_supervision_loss, settings=settings)
    network = UNet(stage_features=(8, 8), deep_supervision=1, classes=4, regions=True)
    image = np.random.default_rng(0).integers(0, 4, (4, 4, 4, 4)).repeat(2, 1).repeat(2, 2)
    label = image.repeat(2, 3)
    batch = {"image": label.astype(np.float32), "label": label.astype(np.uint8)}
    optimizer = optax.adam(1e-2)
    state = init_state(network, optimizer, 0)
    step = quick_jit(partial(train_step, network=network, optimizer=optimizer, loss=loss))
    evaluate = quick_jit(partial(eval_step, network=network, loss=loss))
    before = evaluate(state.params, batch)
    for _ in range(60):
        state, _ = step(state, batch)
    after = evaluate(state.params, batch)
    true = np.bincount(label.ravel(), minlength=4)
    for counts in (before["counts"], after["counts"]):
        np.testing.assert_array_equal(counts[:, 0] + counts[:, 2], true)
    assert (after["counts"][:, 0] > 0.9 * true).all()
    assert float(after["loss"]) < float(before["loss"]) - 1


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


def test_errors_of_a_readers_own_loop_are_helpful():
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x)

    optimizer, batch = optax.sgd(0.1), small_batch(0)
    for network, accumulation_steps, words in (
        (Bare(), 1, "Bare.*tuple"),
        (Small(), 3, "batch of 4"),
    ):
        step = partial(
            train_step, network=network, optimizer=optimizer, loss=focal_loss,
            accumulation_steps=accumulation_steps,
        )  # fmt: skip
        state = init_state(network, optimizer, 0, patch_shape=SHAPE)
        with pytest.raises(InputError, match=words):
            jax.eval_shape(step, state, batch)


@pytest.mark.parametrize("average", [False, True])
def test_decay_and_average_come_together(average):
    network, optimizer = Small(), optax.sgd(0.1)
    state = init_state(network, optimizer, 0, patch_shape=SHAPE, average=average)
    step = partial(
        train_step, network=network, optimizer=optimizer, loss=focal_loss,
        ema_decay=0.0 if average else 0.5,
    )  # fmt: skip
    with pytest.raises(InputError, match=f"average={not average}"):
        jax.eval_shape(step, state, small_batch(0))
