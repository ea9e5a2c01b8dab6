"""Upsampling by transposed convolutions of kernel and stride 2."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.convolution import Implementation
from kitsjax.model.packing import Volumes
from kitsjax.model.stacked import select_planes

UpKernel = Float[Array, "2 2 2 i o"]


def upsample(
    x: Volumes, kernel: UpKernel, implementation: Implementation
) -> Float[Array, "b 2*z 2*y 2*x o"]:
    """Apply a transposed convolution of kernel and stride 2: each voxel becomes a block of eight.

    Every output voxel depends on one input voxel, so all but `stacked` are one matrix product
    to 8 * outputs and a rearrangement, which is fastest everywhere but on TPUs: those rearrange
    rows and columns slowly. `stacked`, for them, is a convolution of planes that have zeros
    between their rows and columns (`_upsample_planes`). `portable` chooses as in
    `convolve`.
    """
    if implementation == "portable":
        out: Array = lax.platform_dependent(
            x, kernel, tpu=_upsample_planes, default=_upsample_product
        )
        return out
    if implementation == "stacked":
        return _upsample_planes(x, kernel)
    return _upsample_product(x, kernel)


def _upsample_product(x: Volumes, kernel: Array) -> Array:
    b, z, y, w = x.shape[:4]
    # (z, y, x, i, o) -> (i, z * y * x * o)
    flat = kernel.transpose(3, 0, 1, 2, 4).reshape(x.shape[-1], -1)
    blocks = jnp.dot(x, flat).reshape(b, z, y, w, 2, 2, 2, -1)
    return blocks.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, 2 * z, 2 * y, 2 * w, -1)


def _upsample_planes(x: Volumes, kernel: UpKernel) -> Float[Array, "b 2*z 2*y 2*x o"]:
    batch, depth, height, width, inputs = x.shape
    # Planes 2 n and 2 n + 1 of the result depend on plane n, by the kernel's first and second
    # depth. So plane n is put twice in a row: in plane 2 n it fills the first half of the channels,
    # in plane 2 n + 1 the second half, and the other half is zero.
    planes, absent = np.arange(depth), np.full(depth, -1)
    first, second = (np.stack(pair, 1).reshape(-1) for pair in [(planes, absent), (absent, planes)])
    spread = select_planes(x, [first, second])
    # (z, y, x, i, o) -> (y, x, z * i, o)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(2, 2, 2 * inputs, -1)
    out = _double_edges(spread.reshape(2 * batch * depth, height, width, 2 * inputs), flat)
    return out.reshape(batch, 2 * depth, *out.shape[1:])


@jax.custom_vjp
def _double_edges(
    x: Float[Array, "b y x i"], kernel: Float[Array, "2 2 i o"]
) -> Float[Array, "b 2*y 2*x o"]:
    """Apply a transposed 2D convolution of kernel and stride 2 to every plane.

    It is the transpose of the convolution in `_halve_edges`, and its gradients are written by that
    one: for the gradients that JAX derives, XLA's compiler for TPUs reverses whole volumes.
    """
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _double_edges(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (kernel_gradient,) = jax.vjp(partial(_halve_edges, gradient), kernel)[1](x)
    return _halve_edges(gradient, kernel), kernel_gradient


_double_edges.defvjp(_forward, _backward)


def _halve_edges(
    x: Float[Array, "b Y X o"], kernel: Float[Array, "2 2 i o"]
) -> Float[Array, "b y x i"]:
    """Apply a 2D convolution of kernel and stride 2 to every plane."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(2, 2),
        padding="VALID",
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )
