"""Winograd's method: exact, as precise as float32 allows, and with half of the products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import convolve
from kitsjax.model.planes import SMALL_DEPTH
from kitsjax.model.winograd import _FOURS, _PAIRS, compute_kernel_gradient, convolve_winograd

CHANNELS = 32


def volumes(depth, channels=CHANNELS):
    shape = (1, depth, 6, 5, channels)
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def kernel(dtype=jnp.float32):
    shape = (3, 3, 3, CHANNELS, CHANNELS)
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), dtype)


@pytest.mark.parametrize(("method", "size"), [(_PAIRS, 2), (_FOURS, 4)], ids=["pairs", "fours"])
def test_few_products_are_a_convolution(method, size):
    rng = np.random.default_rng(0)
    d, k = rng.normal(size=size + 2), rng.normal(size=3)
    found = method.outputs @ ((method.kernel @ k) * (method.inputs @ d))
    np.testing.assert_allclose(found, np.correlate(d, k), atol=1e-13)
    assert len(method.inputs) == size + 2


def count_products(function, *arguments):
    """Count the 2D convolutions and matrix products of planes, in loops as often as they run."""

    def count(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            inner = [value for value in equation.params.values() if hasattr(value, "jaxpr")]
            if equation.primitive.name == "conv_general_dilated":
                total += equation.invars[0].aval.shape[0]
            elif equation.primitive.name == "dot_general":
                total += 1
            total += equation.params.get("length", 1) * sum(count(each.jaxpr) for each in inner)
        return total

    return count(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_half_of_the_products_are_left():
    """The direct method convolves three planes for each plane of the result."""
    large, small = volumes(SMALL_DEPTH + 4), volumes(SMALL_DEPTH)
    assert count_products(convolve_winograd, large, kernel()) == 6 * (SMALL_DEPTH + 4) / 4
    assert count_products(convolve_winograd, small, kernel()) == 4 * SMALL_DEPTH / 2
    assert count_products(compute_kernel_gradient, large, large) == 6 * (SMALL_DEPTH + 4) / 4


def test_the_rounding_is_that_of_float32():
    x = volumes(SMALL_DEPTH + 4)
    with jax.enable_x64(True):
        exact = np.asarray(convolve(x.astype(jnp.float64), kernel(jnp.float64), 1, "direct"))
    error = np.asarray(convolve_winograd(x, kernel()), np.float64) - exact
    # The direct method's is 2.8e-7; with the points 0, 1, -1, 2, -2 it is 9.4e-7.
    assert np.std(error) < 8e-7 * np.std(exact)
