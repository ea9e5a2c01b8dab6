import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kitsjax.settings import OptimizerSettings
from kitsjax.train.optimizer import build_optimizer, learning_rate, learning_rate_at


def test_schedule_is_polynomial_to_zero():
    rate = learning_rate(OptimizerSettings(), 1000)
    for step in (0, 1, 500, 999):
        assert float(rate(step)) == pytest.approx(0.06 * (1 - step / 1000) ** 0.9, rel=1e-4)
    assert float(rate(1000)) == 0


def test_warmup_rises_then_decays_to_zero():
    rate = learning_rate(OptimizerSettings(warmup_steps=4), 10)
    assert [float(rate(s)) for s in range(4)] == pytest.approx([0.015, 0.03, 0.045, 0.06])
    assert float(rate(4)) == pytest.approx(0.06)
    assert float(rate(7)) == pytest.approx(0.06 * 0.5**0.9)
    assert float(rate(10)) == 0


@pytest.mark.parametrize("warmup", [0, 1, 2, 4, 10, 12])
def test_logged_rate_is_the_schedules(warmup):
    settings = OptimizerSettings(warmup_steps=warmup)
    rate = learning_rate(settings, 10)
    for step in range(12):
        logged = learning_rate_at(settings, 10, step)
        assert type(logged) is float
        assert logged == pytest.approx(float(rate(step)), rel=1e-5, abs=1e-9), step


def torch_sgd(weight, gradients, *, rate, momentum, decay, clip):
    """torch.optim.SGD(nesterov=True) after clip_grad_norm_, by its documented formulas."""
    buffer = np.zeros_like(weight)
    for step, gradient in enumerate(gradients):
        gradient = gradient * min(1, clip / np.linalg.norm(gradient)) + decay * weight
        buffer = momentum * buffer + gradient
        weight = weight - rate(step) * (gradient + momentum * buffer)
    return weight


def test_updates_are_those_of_torch_sgd():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=5)
    gradients = [rng.normal(size=5) * 10 for _ in range(6)]
    settings = OptimizerSettings(clip_norm=12.0, weight_decay=0.1, momentum=0.9)
    optimizer = build_optimizer(settings, 10)
    params = jnp.asarray(weight, jnp.float32)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    rate = learning_rate(settings, 10)
    expected = torch_sgd(
        weight, gradients, rate=lambda s: float(rate(s)), momentum=0.9, decay=0.1, clip=12.0
    )
    assert any(np.linalg.norm(g) > 12 for g in gradients), "the clipping was never tried"
    assert np.allclose(params, expected, rtol=1e-5)
