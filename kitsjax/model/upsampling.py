"""Upsampling by transposed convolutions of kernel and stride 2."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.convolution import Implementation
from kitsjax.model.packing import Volumes
from kitsjax.model.stacked import upsample_stacked

UpKernel = Float[Array, "2 2 2 i o"]


def upsample(
    x: Volumes, kernel: UpKernel, implementation: Implementation
) -> Float[Array, "b 2*z 2*y 2*x o"]:
    """Apply a transposed convolution of kernel and stride 2: each voxel becomes a block of eight.

    Every output voxel depends on one input voxel, so all but `stacked` are one matrix product
    to 8 * outputs and a rearrangement, which is fastest everywhere but on TPUs: those rearrange
    rows and columns slowly. `stacked`, for them, is a convolution of planes that have zeros
    between their rows and columns (`stacked.upsample_stacked`). `portable` chooses as in
    `convolve`.
    """
    if implementation == "portable":
        out: Array = lax.platform_dependent(
            x, kernel, tpu=upsample_stacked, default=_upsample_product
        )
        return out
    if implementation == "stacked":
        return upsample_stacked(x, kernel)
    return _upsample_product(x, kernel)


def _upsample_product(x: Volumes, kernel: Array) -> Array:
    b, z, y, w = x.shape[:4]
    # (z, y, x, i, o) -> (i, z * y * x * o)
    flat = kernel.transpose(3, 0, 1, 2, 4).reshape(x.shape[-1], -1)
    blocks = jnp.dot(x, flat).reshape(b, z, y, w, 2, 2, 2, -1)
    return blocks.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, 2 * z, 2 * y, 2 * w, -1)
