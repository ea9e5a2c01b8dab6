"""The step on one device and on eight forced ones (tests/conftest.py)."""

import jax
import numpy as np
import pytest
from flax import jax_utils

from kitsjax.config import AugmentSettings, LossSettings, NetworkSettings, OptimizerSettings
from kitsjax.errors import InputError
from kitsjax.model.unet import build_network
from kitsjax.train.augment import source_shape
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.step import (
    AXIS,
    check_batch,
    init_state,
    make_eval_step,
    make_train_step,
    shard,
)

SHAPE = (16, 16, 16)
AUGMENT = AugmentSettings()


def make(per_batch=True, accumulate=1, loss=None):
    network = build_network(NetworkSettings(features=4, heads=2), SHAPE)
    optimizer = build_optimizer(OptimizerSettings(learning_rate=0.01), 10)
    loss = loss or LossSettings(dice_per_batch=per_batch)
    step = make_train_step(network, optimizer, loss, AUGMENT, SHAPE, accumulate=accumulate, seed=5)
    return init_state(network, optimizer, 0), step, make_eval_step(network, loss)


def make_batch(number, size=8):
    rng = np.random.default_rng(number)
    source = (size, *source_shape(SHAPE, AUGMENT))
    return {
        "image": rng.normal(size=source).astype(np.float16),
        "label": rng.integers(0, 4, source).astype(np.uint8),
        "index": np.arange(number * size, number * size + size, dtype=np.int32),
    }


def run(devices, steps=3, **options):
    state, step, _ = make(**options)
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
    one, one_losses = run(jax.devices()[:1], per_batch=per_batch)
    eight, eight_losses = run(jax.devices()[:8], per_batch=per_batch)
    assert np.allclose(one_losses, eight_losses, atol=1e-5)
    start, _, _ = make()
    moved = largest_difference(one.params, start.params)
    assert moved > 1e-3, "nothing was learned, so nothing was compared"
    assert largest_difference(one.params, eight.params) < 1e-3 * moved
    assert int(one.step) == int(eight.step) == 3


@pytest.mark.slow
def test_accumulation_averages_gradients():
    # A Dice a sample and cross-entropy are means over samples: parts average to the whole.
    whole, whole_losses = run(jax.devices()[:1], per_batch=False)
    parts, part_losses = run(jax.devices()[:1], per_batch=False, accumulate=4)
    assert np.allclose(whole_losses, part_losses, atol=1e-5)
    start, _, _ = make()
    assert largest_difference(whole.params, parts.params) < 1e-3 * largest_difference(
        whole.params, start.params
    )


def test_augmentation_follows_from_the_index_alone():
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


def test_batch_must_fit_the_devices():
    check_batch(8, 2, 4)
    with pytest.raises(InputError, match="such as 8"):
        check_batch(4, 1, 8)
