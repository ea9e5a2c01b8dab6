"""The norm and its written-out gradient against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.norm import norm_relu

SHAPE = (2, 8, 8, 8, 3)

compiled = jax.jit(norm_relu)


def by_definition(x, scale, shift):
    axes = (1, 2, 3)
    normal = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)
    out = normal * scale.reshape(1, 1, 1, 1, -1) + shift.reshape(1, 1, 1, 1, -1)
    return jnp.where(out >= 0, out, 0.01 * out)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_norm_is_right_wherever_the_mean_is(mean):
    x = mean + 2 * jax.random.normal(jax.random.key(0), SHAPE)
    scale, shift = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    exact = by_definition(np.asarray(x, np.float64), np.asarray(scale), np.asarray(shift))
    np.testing.assert_allclose(compiled(x, scale, shift), exact, atol=1e-4)


def test_norm_in_half_precision_takes_one_pass():
    """Its statistics are those of the definition, to the rounding of the result."""
    x = (16 + 2 * jax.random.normal(jax.random.key(0), SHAPE)).astype(jnp.bfloat16)
    scale, shift = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    exact = by_definition(np.asarray(x, np.float64), np.asarray(scale), np.asarray(shift))
    found = np.asarray(compiled(x, scale, shift), np.float64)
    np.testing.assert_allclose(found, exact, rtol=2**-8, atol=1e-3)


def test_gradient_is_that_of_the_definition():
    keys = jax.random.split(jax.random.key(0), 2)
    x, weight = (jax.random.normal(key, (2, 4, 5, 6, 3)) for key in keys)
    operands = (3 + 2 * x, jnp.array([1.0, 2.0, -0.5]), jnp.array([0.0, 1.0, -1.0]))

    def gradients(function):
        def loss(*operands):
            return (weight * function(*operands)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*operands)

    pairs = zip(gradients(norm_relu), gradients(by_definition), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_bias_before_the_norm_has_no_effect():
    """ConvNormRelu adds no bias for this reason."""
    x = jax.random.normal(jax.random.key(0), SHAPE)
    bias = jnp.array([1.0, -2.0, 0.5]).reshape(1, 1, 1, 1, 3)
    found = compiled(x + bias, jnp.ones(3), jnp.zeros(3))
    np.testing.assert_allclose(found, compiled(x, jnp.ones(3), jnp.zeros(3)), atol=1e-5)


def test_norm_of_a_constant_is_the_shift():
    shift = jnp.array([1.0, -2.0, 0.0])
    found = compiled(jnp.full(SHAPE, 7.0), jnp.ones(3), shift)
    expected = np.broadcast_to([1.0, -0.02, 0.0], SHAPE)
    np.testing.assert_allclose(found, expected, atol=1e-6)
