"""Every implementation of the convolutions against the definition, and against each other."""

from functools import cache
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import Implementation, convolve
from kitsjax.model.planar import WINOGRAD_CHANNELS, XLA_GRADIENT_CHANNELS
from kitsjax.model.planes import SMALL_DEPTH

IMPLEMENTATIONS = get_args(Implementation)

# The input's shape and the output's channels: odd and single planes, and channels on all sides of
# the limits between methods.
CASES = [
    ((1, 4, 6, 8, 1), 2), ((2, 5, 4, 6, 3), 5), ((3, 2, 2, 2, 4), 3), ((2, 1, 3, 3, 2), 2),
    ((1, 4, 2, 2, WINOGRAD_CHANNELS), WINOGRAD_CHANNELS),
    ((1, 3, 4, 4, XLA_GRADIENT_CHANNELS), XLA_GRADIENT_CHANNELS),
    ((2, SMALL_DEPTH + 1, 4, 6, WINOGRAD_CHANNELS), WINOGRAD_CHANNELS),
    ((1, SMALL_DEPTH + 4, 2, 3, 1), WINOGRAD_CHANNELS), ((2, 2 * SMALL_DEPTH + 1, 4, 3, 3), 2),
    ((1, 2 * SMALL_DEPTH + 2, 1, 4, 2), 3),
]  # fmt: skip

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_stride = pytest.mark.parametrize("stride", [1, 2])


@cache
def operands(case):
    shape, features = case
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, shape[-1], features)).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), kernel


def convolve_by_definition(x, kernel, stride):
    """PyTorch's formula with padding=1: out[i] = sum over t of x[stride * i + t - 1] kernel[t]."""
    batch, *size, _ = x.shape
    padded = np.zeros((batch, *(n + 2 for n in size), x.shape[-1]))
    padded[:, 1:-1, 1:-1, 1:-1] = x
    out = np.zeros((batch, *((n - 1) // stride + 1 for n in size), kernel.shape[-1]))
    for z, y, w in np.ndindex(out.shape[1:4]):
        window = padded[:, stride * z :, stride * y :, stride * w :][:, :3, :3, :3]
        out[:, z, y, w] = np.tensordot(window, kernel, 4)
    return out


def output_and_gradients(function, x, kernel):
    """Output, and the gradients of half its square, which differ from voxel to voxel."""

    @jax.jit
    def compiled(x, kernel):
        out, pullback = jax.vjp(function, x, kernel)
        return out, pullback(out)

    return compiled(x, kernel)


@cache
def convolve_both_ways(case, stride, implementation):
    def function(x, kernel):
        return convolve(x, kernel, stride, implementation)

    return output_and_gradients(function, *operands(case))


@each_case
@each_stride
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_convolve_is_pytorchs_formula(case, stride, implementation):
    found, _ = convolve_both_ways(case, stride, implementation)
    expected = convolve_by_definition(*operands(case), stride)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


@each_case
@each_stride
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:])
def test_convolve_gradients_equal_direct(case, stride, implementation):
    _, gradients = convolve_both_ways(case, stride, implementation)
    _, direct = convolve_both_ways(case, stride, "direct")
    for found, expected in zip(gradients, direct, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@each_case
@each_stride
@pytest.mark.parametrize("implementation", ["planar", "stacked"])
def test_half_precision_is_kept(case, stride, implementation):
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in operands(case))
    found, gradients = output_and_gradients(
        lambda x, kernel: convolve(x, kernel, stride, implementation), x, kernel
    )
    assert {leaf.dtype for leaf in (found, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    expected = convolve_by_definition(np.asarray(x), np.asarray(kernel, np.float64), stride)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.02 * scale)
