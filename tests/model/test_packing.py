"""Packed convolutions against XLA's own, and how much is packed."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import convolve
from kitsjax.model.packing import choose_packing, convolve_packed

SHAPE = (2, 3, 4)


def operands(inputs, outputs, width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*SHAPE, width, inputs))
    kernel = rng.normal(size=(3, 3, 3, inputs, outputs))
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def output_and_gradients(function, *arguments):
    out, pull_back = jax.vjp(function, *arguments)
    weight = np.random.default_rng(1).normal(size=out.shape)
    return out, *pull_back(jnp.asarray(weight, out.dtype))


def layer(form):
    """A compiled layer with its gradients, in one form of the convolution."""

    def convolve_in_form(x, kernel):
        return convolve(x, kernel, 1, form)

    return jax.jit(partial(output_and_gradients, convolve_in_form))


@pytest.mark.parametrize(
    ("inputs", "outputs", "width", "packing"),
    [
        (32, 32, 8, 2),  # half of a tile
        (16, 16, 8, 4),
        (12, 12, 8, 4),  # five times 12 would fill it, which is no power of two
        (32, 64, 8, 1),  # a whole tile
        (1, 32, 16, 8),  # the image
        (1, 32, 4, 4),  # no more voxels than there are
        (32, 32, 7, 1),  # an odd width
        (32, 32, 6, 2),
    ],
)
def test_voxels_are_packed_until_a_tile_is_full(inputs, outputs, width, packing):
    assert choose_packing((3, 3, 3, inputs, outputs), width) == packing


@pytest.mark.parametrize(
    ("inputs", "outputs", "width"),
    [(32, 32, 6), (1, 5, 16), (3, 16, 8), (8, 64, 4), (9, 20, 5), (1, 64, 2), (2, 3, 1)],
)
def test_packed_is_direct(inputs, outputs, width):
    """The result and both gradients, within float32's rounding."""

    arrays = operands(inputs, outputs, width)
    for found, expected in zip(layer("packed")(*arrays), layer("direct")(*arrays), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_sum_is_added_with_its_gradient():
    x, kernel = operands(32, 32, 4)
    added = x[..., ::-1]

    def convolve_then_add(x, kernel, added):
        return convolve(x, kernel, 1, "direct") + added

    together, separate = (
        jax.jit(partial(output_and_gradients, f))(x, kernel, added)
        for f in (convolve_packed, convolve_then_add)
    )
    for found, expected in zip(together, separate, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def list_convolutions(form):
    """Shapes of the results of all convolutions in a layer of 32 channels and its gradients."""
    text = layer(form).lower(*operands(32, 32, 4)).as_text()
    found = re.findall(r"stablehlo.convolution.* -> tensor<([\dx]+)xf32>", text)
    return [tuple(map(int, shape.split("x"))) for shape in found]


def test_all_three_products_fill_a_tile():
    """The result and the gradients of its input and of its kernel have 64 channels, not 32."""
    packed, direct = list_convolutions("packed"), list_convolutions("direct")
    assert len(packed) == len(direct) == 3
    assert all(64 in shape for shape in packed)
    assert not any(64 in shape for shape in direct)


def test_packing_keeps_bfloat16():
    x, kernel = (array.astype(jnp.bfloat16) for array in operands(16, 16, 4))
    found = output_and_gradients(convolve_packed, x, kernel)
    assert {array.dtype for array in found} == {jnp.dtype(jnp.bfloat16)}
