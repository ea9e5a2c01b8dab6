"""Instance norm and leaky ReLU in one function, whose gradient keeps little in memory."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

SLOPE = 0.01
"""The leaky ReLU multiplies negative values by this, as in nnU-Net."""

EPSILON = 1e-5
"""The norm adds this to the variance, as PyTorch does by default and nnU-Net with it."""


@jax.custom_vjp
def norm_relu(
    x: Float[Array, "b z y x c"], scale: Float[Array, " c"], shift: Float[Array, " c"]
) -> Float[Array, "b z y x c"]:
    """Normalize each channel of each sample over its voxels, scale, shift, apply a leaky ReLU.

    Statistics are float32 (`_center`). The result has the dtype of x.

    The gradient is written out so that x and its statistics are all that is kept for it;
    derived automatically, float32 copies of x would be most of the training step's memory.
    """
    return _norm_relu_forward(x, scale, shift)[0]


def _norm_relu_forward(x: Array, scale: Array, shift: Array) -> tuple[Array, tuple[Array, ...]]:
    centered, mean, variance = _center(x)
    inverse_deviation = lax.rsqrt(variance + EPSILON)
    normal = centered * inverse_deviation
    out = jax.nn.leaky_relu(_scale_and_shift(normal, scale, shift), SLOPE)
    return out.astype(x.dtype), (x, mean, inverse_deviation, scale, shift)


def _norm_relu_backward(saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    x, mean, inverse_deviation, scale, shift = saved
    # Compute the normalized values again, which the forward pass did not keep.
    normal = (x.astype(jnp.float32) - mean) * inverse_deviation
    # Go back through the leaky ReLU.
    slope = jnp.where(_scale_and_shift(normal, scale, shift) >= 0, 1, SLOPE)
    gradient = gradient.astype(jnp.float32) * slope
    shift_mean = _voxel_mean(gradient)
    scale_mean = _voxel_mean(gradient * normal)
    # Go back through the norm, which passes on no common shift of x and no common factor.
    factor = inverse_deviation * scale.reshape(1, 1, 1, 1, -1)
    inner = factor * (gradient - shift_mean - normal * scale_mean)
    # The gradients of scale and shift are sums, not means.
    voxels = math.prod(x.shape[1:4])
    batch_and_voxels = (0, 1, 2, 3)
    return (
        inner.astype(x.dtype),
        voxels * scale_mean.sum(batch_and_voxels),
        voxels * shift_mean.sum(batch_and_voxels),
    )


norm_relu.defvjp(_norm_relu_forward, _norm_relu_backward)


def _center(x: Array) -> tuple[Array, Array, Array]:
    """Compute x without the mean of each channel of each sample, the means and the variances.

    In float32 this takes two passes over x (mean, then mean squared deviation): mean(x^2) -
    mean(x)^2 cancels badly where the mean is large. In half precision one pass is enough: float32
    holds the squares exactly, and the cancellation does no more harm than the rounding of x did.
    """
    wide = x.astype(jnp.float32)
    mean = _voxel_mean(wide)
    centered = wide - mean
    if jnp.finfo(x.dtype).bits >= 32:
        return centered, mean, _voxel_mean(jnp.square(centered))
    variance = _voxel_mean(jnp.square(wide)) - jnp.square(mean)
    return centered, mean, jnp.maximum(variance, 0)


def _voxel_mean(x: Float[Array, "b z y x c"]) -> Float[Array, "b 1 1 1 c"]:
    return x.mean((1, 2, 3), keepdims=True)


def _scale_and_shift(x: Array, scale: Array, shift: Array) -> Array:
    return x * scale.reshape(1, 1, 1, 1, -1) + shift.reshape(1, 1, 1, 1, -1)
