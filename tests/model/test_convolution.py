"""Both forms of the 3x3x3 convolution against the definition, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import (
    IMPLEMENTATIONS,
    OWN_GRADIENT_CHANNELS,
    WINOGRAD_CHANNELS,
    convolve,
    upsample,
)

# Odd and single planes, and channels on all sides of the limits between methods.
SHAPES = [
    ((1, 4, 6, 8, 1), 2), ((2, 5, 4, 6, 3), 5), ((3, 2, 2, 2, 4), 3), ((2, 1, 3, 3, 2), 2),
    ((1, 4, 2, 2, WINOGRAD_CHANNELS), WINOGRAD_CHANNELS),
    ((1, 3, 4, 4, OWN_GRADIENT_CHANNELS), OWN_GRADIENT_CHANNELS),
]  # fmt: skip


def by_definition(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """PyTorch's formula with padding=1: out[i] = sum over t of x[stride * i + t - 1] kernel[t]."""
    batch, *size, _ = x.shape
    padded = np.zeros((batch, *(n + 2 for n in size), x.shape[-1]))
    padded[:, 1:-1, 1:-1, 1:-1] = x
    out = np.zeros((batch, *((n - 1) // stride + 1 for n in size), kernel.shape[-1]))
    for z, y, w in np.ndindex(out.shape[1:4]):
        window = padded[:, stride * z :, stride * y :, stride * w :][:, :3, :3, :3]
        out[:, z, y, w] = np.tensordot(window, kernel, 4)
    return out


@pytest.fixture(params=SHAPES, ids=str)
def operands(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    shape, features = request.param
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, shape[-1], features)).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), kernel


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_convolve_is_pytorchs_formula(operands, implementation, stride):
    x, kernel = operands
    found = convolve(jnp.asarray(x), jnp.asarray(kernel), stride, implementation)
    expected = by_definition(x, kernel, stride)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS[1:])
def test_forms_have_equal_gradients(operands, implementation, stride):
    x, kernel = operands

    def gradients(implementation):
        # The square makes the incoming gradient differ from voxel to voxel.
        def loss(x, kernel):
            return jnp.square(convolve(x, kernel, stride, implementation)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

    for found, expected in zip(gradients(implementation), gradients("direct"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_planar_keeps_bfloat16(operands):
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in operands)
    found = convolve(x, kernel, 1, "planar")
    assert found.dtype == jnp.bfloat16
    expected = convolve(x.astype(jnp.float32), kernel.astype(jnp.float32), 1, "direct")
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.02 * scale)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_upsample_gives_every_voxel_a_block_of_its_own(implementation):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 2, 4, 5)), rng.normal(size=(2, 2, 2, 5, 3))
    expected = np.zeros((2, 6, 4, 8, 3))
    for at in np.ndindex(2, 2, 2):
        expected[:, at[0] :: 2, at[1] :: 2, at[2] :: 2] = x @ kernel[at]
    found = upsample(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), implementation)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_forms_of_upsample_have_equal_gradients():
    x = jax.random.normal(jax.random.key(0), (2, 3, 2, 4, 5))
    kernel = jax.random.normal(jax.random.key(1), (2, 2, 2, 5, 3))

    def gradients(implementation):
        return jax.grad(lambda x, k: jnp.square(upsample(x, k, implementation)).sum(), (0, 1))(
            x, kernel
        )

    for found, expected in zip(gradients("stacked"), gradients("direct"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
