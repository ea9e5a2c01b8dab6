"""Upsampling in every implementation, and its merger with the convolution, against definitions."""

from functools import cache, partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import Implementation
from kitsjax.model.decoder import DecoderInput, convolve_decoder, convolve_merged
from kitsjax.model.upsampling import upsample

IMPLEMENTATIONS = get_args(Implementation)
SHAPE, FEATURES = (2, 3, 2, 4, 5), 3


@cache
def upsample_operands():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 2, 2, SHAPE[-1], FEATURES))
    return rng.normal(size=SHAPE).astype(np.float32), kernel.astype(np.float32)


@cache
def upsample_both_ways(implementation):
    @jax.jit
    def compiled(x, kernel):
        out, pullback = jax.vjp(partial(upsample, implementation=implementation), x, kernel)
        return out, pullback(out)

    return compiled(*upsample_operands())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_upsample_makes_a_block_of_each_voxel(implementation):
    x, kernel = upsample_operands()
    expected = np.zeros((2, 6, 4, 8, FEATURES))
    for at in np.ndindex(2, 2, 2):
        expected[:, at[0] :: 2, at[1] :: 2, at[2] :: 2] = x @ kernel[at]
    found, _ = upsample_both_ways(implementation)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_upsample_is_a_transposed_convolution():
    @jax.jit
    def by_lax(x, kernel):
        # lax flips the kernel that it is given.
        return jax.lax.conv_transpose(
            x, kernel[::-1, ::-1, ::-1], (2, 2, 2), "VALID",
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        )  # fmt: skip

    found, _ = upsample_both_ways("direct")
    np.testing.assert_allclose(found, by_lax(*upsample_operands()), rtol=1e-5, atol=1e-5)


def test_upsample_gradients_equal_direct():
    (_, gradients), (_, direct) = upsample_both_ways("stacked"), upsample_both_ways("direct")
    for found, expected in zip(gradients, direct, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


# A decoder level whose volumes have odd and even lengths, and three kinds of channels.
COARSE, SKIP_CHANNELS, UP_CHANNELS, OUTPUTS = (2, 3, 2, 4, 5), 2, 3, 4


@cache
def decoder_operands():
    """The five arrays of a decoder level, float64: a DecoderInput and the kernel."""
    rng = np.random.default_rng(1)
    batch, *size, inputs = COARSE
    skip = rng.normal(size=(batch, *(2 * n for n in size), SKIP_CHANNELS))
    up_kernel = rng.normal(size=(2, 2, 2, inputs, UP_CHANNELS))
    bias, coarse = rng.normal(size=UP_CHANNELS), rng.normal(size=COARSE)
    kernel = rng.normal(size=(3, 3, 3, UP_CHANNELS + SKIP_CHANNELS, OUTPUTS))
    return DecoderInput(coarse, up_kernel, bias, skip), kernel


def output_and_gradients(function, inputs, kernel):
    """The output without its mean, and the gradients of a weighted sum of it."""

    def centered(inputs, kernel):
        out = function(inputs, kernel)
        return out - out.mean((1, 2, 3), keepdims=True)

    out, pullback = jax.vjp(centered, inputs, kernel)
    weight = np.random.default_rng(2).normal(size=out.shape)
    return out, jax.tree.leaves(pullback(jnp.asarray(weight, out.dtype)))


@cache
def decoder_by_definition():
    """One step after the other in float64."""
    with jax.enable_x64(True):
        operands = jax.tree.map(jnp.asarray, decoder_operands())
        function = partial(convolve_decoder, dtype=jnp.float64, implementation="direct")
        return jax.tree.map(np.asarray, output_and_gradients(function, *operands))


def single(operands):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), operands)


@pytest.mark.parametrize("implementation", ["merged", *IMPLEMENTATIONS])
def test_a_decoder_level_is_its_definition(implementation):
    """The output up to a constant a channel, and all gradients, within float32's rounding."""
    function = partial(convolve_decoder, dtype=jnp.float32, implementation=implementation)
    if implementation == "merged":
        function = partial(convolve_merged, dtype=jnp.float32)
    out, gradients = jax.jit(partial(output_and_gradients, function))(*single(decoder_operands()))
    expected, expected_gradients = decoder_by_definition()
    np.testing.assert_allclose(out, expected, atol=1e-5 * np.abs(expected).max())
    for found, exact in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-5 * np.abs(exact).max())


def test_the_upsampled_bias_ends_at_the_border():
    """Where the kernel reaches beyond the volume there is no bias: one step less in each axis."""
    inputs = DecoderInput(
        jnp.zeros((1, 2, 2, 2, 1)),
        jnp.zeros((2, 2, 2, 1, 1)),
        jnp.ones(1),
        jnp.zeros((1, 4, 4, 4, 1)),
    )
    found = jax.jit(partial(convolve_merged, dtype=jnp.float32))(inputs, jnp.ones((3, 3, 3, 2, 1)))
    seen = np.array([2, 3, 3, 2])
    expected = np.einsum("z,y,x->zyx", seen, seen, seen) - 27
    np.testing.assert_array_equal(found[0, ..., 0], expected)


@pytest.mark.parametrize(("size", "merged"), [(8, False), (12, True)])
def test_large_volumes_are_merged(size, merged):
    """512 numbers a channel do not pay for a kernel of 4x4x4, 1728 do: then nothing is joined."""
    inputs = DecoderInput(
        jnp.ones((1, *[size] * 3, 7)), jnp.ones((2, 2, 2, 7, 3)), jnp.ones(3),
        jnp.ones((1, *[2 * size] * 3, 2)),
    )  # fmt: skip
    function = partial(convolve_decoder, dtype=jnp.float32, implementation="merged")
    text = str(jax.make_jaxpr(function)(inputs, jnp.ones((3, 3, 3, 5, 4))))
    edges = ",".join([str(2 * size)] * 3)
    assert (f"[1,{edges},5]" not in text) == merged
    assert (f"[1,{edges},3]" not in text) == merged


def test_merging_keeps_bfloat16():
    inputs, kernel = single(decoder_operands())
    inputs = inputs._replace(
        coarse=inputs.coarse.astype(jnp.bfloat16), skip=inputs.skip.astype(jnp.bfloat16)
    )
    found = jax.jit(partial(convolve_merged, dtype=jnp.bfloat16))(inputs, kernel)
    assert found.dtype == jnp.bfloat16
    found = np.asarray(found, np.float64)
    expected, _ = decoder_by_definition()
    found -= found.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("implementation", ["direct", "planar", "stacked", "portable"])
def test_a_bias_gradient_is_summed_in_float32(implementation):
    """In bfloat16 a sum of 2**15 ones stops growing at 256."""
    inputs, kernel = single(decoder_operands())
    wide = inputs._replace(
        coarse=jnp.zeros((1, 16, 16, 16, inputs.coarse.shape[-1])),
        skip=jnp.zeros((1, 32, 32, 32, inputs.skip.shape[-1])),
    )

    def gradient(dtype):
        def total(bias):
            found = convolve_decoder(wide._replace(up_bias=bias), kernel, dtype, implementation)
            return found.astype(jnp.float32).sum()

        return jax.jit(jax.grad(total))(inputs.up_bias)

    np.testing.assert_allclose(gradient(jnp.bfloat16), gradient(jnp.float32), rtol=0.02)
