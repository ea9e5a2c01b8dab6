"""Convolutions for TPUs: 2D convolutions of planes that are stacked as a batch.

A TPU's registers hold 8 by 128 numbers, and XLA puts the planes along the 128 where there are fewer
channels. A 2D convolution of all planes then needs no other order of the numbers. A slice with a
step along the planes, or interleaving them, copies each number several times. A product with a
matrix of zeros and ones moves the planes once, in the matrix units, and is exact for finite numbers
(benchmarks/README.md).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes, transpose_kernel
from kitsjax.model.planes import (
    AnyVolumes,
    convolve_neighbors,
    convolve_planes,
    flatten_kernel,
)


def convolve_stacked(x: Volumes, kernel: Kernel, stride: int) -> Float[Array, "b Z Y X o"]:
    """Convolve by one 2D convolution of three neighboring planes, side by side as channels.

    The neighbors are chosen by slices with stride 1, and by a product with stride 2: for each, the
    other way moves more bytes.
    """
    if stride == 1:
        return convolve_together([x], kernel)
    depth = x.shape[1]
    # Plane n of the result depends on the planes stride * n + t - 1.
    centers = stride * np.arange(-(-depth // stride))
    neighbors = select_planes(x, [centers + t - 1 for t in range(3)])
    return convolve_planes(neighbors, flatten_kernel(kernel), stride)


def select_planes(x: Volumes, sources: list[np.ndarray]) -> Float[Array, "b Z y x c"]:
    """Choose planes of x by a product, and put several choices side by side as channels.

    Channels t * i to (t + 1) * i of plane k of the result are those of plane `sources[t][k]` of x.
    A plane that is not there (-1, or one beyond the last) is zero. All of x must be finite, since
    0 * inf is nan: such a number would reach every plane of its sample.
    """
    choice = np.stack([source == np.arange(x.shape[1])[:, None] for source in sources])
    # A sum of one number and zeros is exact if the number is not rounded before.
    out = jnp.einsum(
        "bzyxi,tzZ->bZyxti", x, choice.astype(x.dtype), precision=lax.Precision.HIGHEST
    )
    return out.reshape(*out.shape[:4], len(sources) * x.shape[-1])


@jax.custom_vjp
def convolve_together(volumes: list[AnyVolumes], kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve volumes as if their channels were one volume's, with stride 1.

    That volume is not written first; its gradient is, once, and then split.
    """
    return convolve_neighbors(volumes, kernel)


def _forward(volumes: list[AnyVolumes], kernel: Kernel) -> tuple[Array, tuple[list[Array], Array]]:
    return convolve_neighbors(volumes, kernel), (volumes, kernel)


def _backward(saved: tuple[list[Array], Array], gradient: Array) -> tuple[list[Array], Array]:
    """Compute the gradients; that of the volumes is such a convolution as well.

    Derived automatically, it would be the gradients of three neighboring planes side by side,
    written, split and added, which moves more than twice the bytes.
    """
    volumes, kernel = saved
    (kernel_gradient,) = jax.vjp(partial(convolve_neighbors, volumes), kernel)[1](gradient)
    whole = convolve_neighbors([gradient], transpose_kernel(kernel))
    ends = np.cumsum([x.shape[-1] for x in volumes])
    return jnp.split(whole, ends[:-1], axis=-1), kernel_gradient


convolve_together.defvjp(_forward, _backward)
