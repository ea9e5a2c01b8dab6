"""Both forms of the 3x3x3 convolution against the definition, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.model.convolution import FORMS, convolve

SHAPES = [((1, 4, 6, 8, 1), 2), ((2, 8, 4, 6, 3), 5), ((3, 2, 2, 2, 4), 3)]


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
@pytest.mark.parametrize("form", FORMS)
def test_convolve_is_pytorchs_formula(operands, form, stride):
    x, kernel = operands
    found = convolve(jnp.asarray(x), jnp.asarray(kernel), stride, form)
    np.testing.assert_allclose(found, by_definition(x, kernel, stride), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_forms_have_equal_gradients(operands, stride):
    x, kernel = operands

    def gradients(form):
        # The square makes the incoming gradient differ from voxel to voxel.
        def loss(x, kernel):
            return jnp.square(convolve(x, kernel, stride, form)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

    for found, expected in zip(gradients("planar"), gradients("direct"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_planar_keeps_bfloat16(operands):
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in operands)
    found = convolve(x, kernel, 1, "planar")
    assert found.dtype == jnp.bfloat16
    expected = convolve(x.astype(jnp.float32), kernel.astype(jnp.float32), 1, "direct")
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.02 * scale)
