"""Convolutions for TPUs: 2D convolutions of planes that are stacked as a batch.

A TPU's registers hold 8 by 128 numbers, and XLA puts the planes along the 128 where there are fewer
channels. Then a 2D convolution of all planes moves nothing, but to choose planes by a slice with a
step, or to interleave them, moves every number several times. A product with a matrix of zeros and
ones does the same at once, in the matrix units, and exactly (benchmarks/README.md).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes, transpose_kernel
from kitsjax.model.planes import convolve_neighbors, convolve_planes, flatten_kernel

AnyVolumes = Float[Array, "b z y x _"]
"""Volumes of any number of channels."""


def convolve_stacked(x: Volumes, kernel: Kernel, stride: int) -> Float[Array, "b Z Y X o"]:
    """Convolve by one 2D convolution of three neighboring planes, side by side as channels."""
    if stride == 1:
        return convolve_together([x], kernel)
    depth = x.shape[1]
    # Plane n of the result depends on the planes stride * n + t - 1.
    centers = stride * np.arange(-(-depth // stride))
    neighbors = _select_planes(x, [centers + t - 1 for t in range(3)])
    return convolve_planes(neighbors, flatten_kernel(kernel), stride)


def _select_planes(x: Volumes, sources: list[np.ndarray]) -> Float[Array, "b Z y x c"]:
    """Put planes of x side by side as channels: plane k of set t is plane `sources[t][k]`.

    A plane that is not there (-1, or one beyond the last) is zero.
    """
    choice = np.stack([source == np.arange(x.shape[1])[:, None] for source in sources])
    # A sum of one number and zeros is exact if the number is not rounded before.
    out = jnp.einsum(
        "bzyxi,tzZ->bZyxti", x, choice.astype(x.dtype), precision=lax.Precision.HIGHEST
    )
    return out.reshape(*out.shape[:4], -1)


@jax.custom_vjp
def convolve_together(volumes: list[AnyVolumes], kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve volumes as if their channels were one volume's, with stride 1.

    That volume is not written first.
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


def upsample_stacked(
    x: Volumes, kernel: Float[Array, "2 2 2 i o"]
) -> Float[Array, "b 2*z 2*y 2*x o"]:
    """Apply a transposed convolution of kernel and stride 2."""
    batch, depth, height, width, inputs = x.shape
    # Plane n becomes the planes 2 n and 2 n + 1, by the two depths of the kernel: its channels
    # stand twice side by side, and are zero where they do not meet their depth.
    planes, nothing = np.arange(depth), np.full(depth, -1)
    even, odd = ([planes, nothing], [nothing, planes])
    spread = _select_planes(x, [np.stack(pair, 1).reshape(-1) for pair in (even, odd)])
    # (z, y, x, i, o) -> (y, x, z * i, o)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(2, 2, 2 * inputs, -1)
    out = _double_planes(spread.reshape(2 * batch * depth, height, width, -1), flat)
    return out.reshape(batch, 2 * depth, *out.shape[1:])


@jax.custom_vjp
def _double_planes(
    x: Float[Array, "b y x i"], kernel: Float[Array, "2 2 i o"]
) -> Float[Array, "b 2*y 2*x o"]:
    """Apply a transposed 2D convolution of kernel and stride 2 to every plane.

    It is the transpose of a convolution of stride 2, and its gradients are written as those of
    that one: XLA would reverse whole volumes.
    """
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _double_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _double_planes(x, kernel), (x, kernel)


def _double_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (kernel_gradient,) = jax.vjp(partial(_halve_planes, gradient), kernel)[1](x)
    return _halve_planes(gradient, kernel), kernel_gradient


_double_planes.defvjp(_double_forward, _double_backward)


def _halve_planes(
    x: Float[Array, "b Y X o"], kernel: Float[Array, "2 2 i o"]
) -> Float[Array, "b y x i"]:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(2, 2),
        padding="VALID",
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )
