"""What a TPU must not do with planes: write, split or interleave more than it needs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import convolve
from kitsjax.model.decoder import DecoderInput, convolve_decoder
from kitsjax.model.stacked import select_planes
from kitsjax.model.upsampling import upsample

VOXELS = (1, 4, 6, 8)


def lower_gradients(function, *shapes):
    """Lower a function's gradients of all operands; return the program's text."""
    operands = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def compute_gradients(*operands):
        out, pull_back = jax.vjp(function, *operands)
        return pull_back(out)

    return jax.jit(compute_gradients).lower(*operands).as_text()


def results(operation, program):
    """List the shapes of an operation's results."""
    found = re.findall(rf"stablehlo\.{operation}\b.*-> tensor<([\dx]*)xf32>", program)
    found += re.findall(rf"stablehlo\.{operation}\b[^>\n]*: tensor<([\dx]*)xf32>\n", program)
    return {tuple(map(int, shape.split("x"))) for shape in found}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_selected_planes_are_equal(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 4, 2)), dtype)
    sources = [np.array([-1, 1, 3]), np.array([4, 0, 5])]
    padded = np.pad(np.asarray(x), [(0, 0), (1, 1), (0, 0), (0, 0), (0, 0)])
    expected = np.concatenate([padded[:, source + 1] for source in sources], -1)
    np.testing.assert_array_equal(np.asarray(select_planes(x, sources)), expected)


def test_gradients_are_summed_within():
    """No volume holds the gradients of three neighboring planes side by side."""
    inputs, outputs = 5, 7

    def layer(x, kernel):
        return convolve(x, kernel, 1, "stacked")

    program = lower_gradients(layer, (*VOXELS, inputs), (3, 3, 3, inputs, outputs))
    planes = {shape for shape in results("convolution", program) if shape[1:3] == VOXELS[2:]}
    assert {shape[3] for shape in planes} == {inputs, outputs}, planes


def test_what_is_concatenated_is_not_written():
    """Only neighboring planes are concatenated, not the upsampled and the skipped channels."""

    def level(coarse, up_kernel, skip, kernel):
        inputs = DecoderInput(coarse, up_kernel, jnp.zeros(3), skip)
        return convolve_decoder(inputs, kernel, jnp.float32, "stacked")

    program = lower_gradients(
        level, (1, 2, 3, 4, 6), (2, 2, 2, 6, 3), (*VOXELS, 2), (3, 3, 3, 5, 4)
    )
    assert {shape[-1] for shape in results("concatenate", program)} >= {15}
    assert not {shape for shape in results("concatenate", program) if shape[-1] == 5}, program


@pytest.mark.parametrize(
    ("function", "kernel"),
    [
        (lambda x, kernel: convolve(x, kernel, 2, "stacked"), (3, 3, 3, 5, 7)),
        (lambda x, kernel: upsample(x, kernel, "stacked"), (2, 2, 2, 5, 7)),
    ],
    ids=["stride 2", "upsampling"],
)
def test_planes_are_moved_by_products_only(function, kernel):
    """Along z nothing is sliced with a step or interleaved, forward or backward."""
    program = lower_gradients(function, (*VOXELS, 5), kernel)
    assert not re.search(r"stablehlo\.slice.*:\d+:2", program), program
    assert not re.search(r"interior = \[0, 1", program), program
    assert not results("concatenate", program), program
    # The products keep all digits of float32.
    precisions = re.findall(r"stablehlo\.dot_general.*precision = \[(\w+), (\w+)\]", program)
    assert set(precisions) == {("HIGHEST", "HIGHEST")}, program
    assert program.count("stablehlo.dot_general") == len(precisions)


def test_upsampling_has_the_strided_gradient():
    """Its kernel's gradient is that of a convolution of stride 2, with the gradient as volume."""

    def layer(x, kernel):
        return upsample(x, kernel, "stacked")

    program = lower_gradients(layer, (*VOXELS, 5), (2, 2, 2, 5, 7))
    dilated = re.findall(r"(lhs|rhs)_dilate = \[2, 2\]", program)
    # Forward the volume is dilated, and in the kernel's gradient what stands as its kernel.
    assert sorted(dilated) == ["lhs", "rhs"], program
