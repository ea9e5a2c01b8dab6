"""Upsampling by transposed convolutions of kernel and stride 2."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.convolution import Implementation
from kitsjax.model.packing import Volumes
from kitsjax.model.planes import flatten_kernel
from kitsjax.model.stacked import select_planes

UpKernel = Float[Array, "2 2 2 i o"]

_AXES = {2: ("NHWC", "HWIO", "HWOI"), 3: ("NDHWC", "DHWIO", "DHWOI")}
"""The orders of the axes of planes or volumes: of the array, of a kernel and of one transposed."""


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
    batch, depth = x.shape[:2]
    # Planes 2 n and 2 n + 1 of the result depend on plane n, by the kernel's first and second
    # depth. So plane n is put twice in a row: in plane 2 n it fills the first half of the channels,
    # in plane 2 n + 1 the second half, and the other half is zero.
    planes, absent = np.arange(depth), np.full(depth, -1)
    first, second = (np.stack(pair, 1).reshape(-1) for pair in [(planes, absent), (absent, planes)])
    spread = select_planes(x, [first, second])
    stacked = spread.reshape(2 * batch * depth, *spread.shape[2:])
    out = convolve_transposed(stacked, flatten_kernel(kernel), 0)
    return out.reshape(batch, 2 * depth, *out.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_transposed(
    x: Float[Array, "b *voxels i"], kernel: Float[Array, "*positions i o"], padding: int
) -> Float[Array, "b *twice o"]:
    """Apply a transposed convolution of stride 2: sum x[s] kernel[v - 2 s + padding] over voxels s.

    It is the transpose of `_convolve_strided`, and its gradients are written by that one. For those
    that JAX derives, a GPU would convolve with a dilated volume as the kernel, which cuDNN does not
    know, and XLA's compiler for TPUs reverses whole volumes.

    Args:
        x: planes (b, y, x, i) or volumes (b, z, y, x, i).
        kernel: with as many axes of positions, each of k.
        padding: an axis of n voxels becomes one of 2 n + k - 2 - 2 * padding.
    """
    axes = x.ndim - 2
    volumes, kernels, _ = _AXES[axes]
    ends = kernel.shape[0] - 1 - padding
    return lax.conv_general_dilated(
        x,
        jnp.flip(kernel, range(axes)),
        window_strides=(1,) * axes,
        padding=((ends, ends),) * axes,
        lhs_dilation=(2,) * axes,
        dimension_numbers=(volumes, kernels, volumes),
    )


def _forward(x: Array, kernel: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return convolve_transposed(x, kernel, padding), (x, kernel)


def _backward(padding: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    strided = partial(_convolve_strided, gradient, padding=padding)
    (kernel_gradient,) = jax.vjp(strided, kernel)[1](x)
    return strided(kernel), kernel_gradient


convolve_transposed.defvjp(_forward, _backward)


def _convolve_strided(x: Array, kernel: Array, padding: int) -> Array:
    """Apply a convolution of stride 2 from the kernel's outputs to its inputs."""
    axes = x.ndim - 2
    volumes, _, kernels = _AXES[axes]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(2,) * axes,
        padding=((padding, padding),) * axes,
        dimension_numbers=(volumes, kernels, volumes),
    )
