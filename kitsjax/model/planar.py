"""Convolutions for CPUs: 2D convolutions and matrix products of a few planes at a time.

XLA's CPU backend runs those several times faster than 3D convolutions, gradients most of all. Large
volumes are worked through in groups of planes, which stay in a core's cache.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes, transpose_kernel
from kitsjax.model.planes import SMALL_DEPTH, convolve_planes, pad
from kitsjax.model.winograd import compute_kernel_gradient, convolve_winograd

WINOGRAD_CHANNELS = 32
"""From this many output channels on, Winograd's method saves more products than it adds sums."""

XLA_GRADIENT_CHANNELS = 64
"""From this many channels on, XLA computes the kernel's gradient of a small volume well."""


@jax.custom_vjp
def convolve_planar(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve with stride 1 and one voxel of zeros as padding."""
    if kernel.shape[4] >= WINOGRAD_CHANNELS:
        return convolve_winograd(x, kernel)
    return _summed(x, kernel)


def _forward(x: Volumes, kernel: Kernel) -> tuple[Array, tuple[Array, Array]]:
    return convolve_planar(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    small, least = x.shape[1] <= SMALL_DEPTH, min(kernel.shape[3:])
    if x.shape[-1] == 1:
        kernel_gradient = _image_gradient(x, gradient)
    elif small and least >= XLA_GRADIENT_CHANNELS:
        (kernel_gradient,) = jax.vjp(partial(convolve_winograd, x), kernel)[1](gradient)
    elif not small and least >= WINOGRAD_CHANNELS:
        kernel_gradient = compute_kernel_gradient(x, gradient)
    else:
        kernel_gradient = _summed_gradient(x, gradient)
    return convolve_planar(gradient, transpose_kernel(kernel)), kernel_gradient.astype(kernel.dtype)


convolve_planar.defvjp(_forward, _backward)


def _summed(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve by one 2D convolution to three sets of channels, one a depth of the kernel."""
    # The three depths are output channels, because XLA copies nine neighbors of each input value.
    # (z, y, x, i, o) -> (y, x, i, z * o)
    flat = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, kernel.shape[3], -1)
    below, here, above = jnp.split(convolve_planes(x, flat), 3, axis=-1)
    # Output plane n is the sum over input planes n - 1, n and n + 1.
    return here + pad(below, 1)[:, :-2] + pad(above, 1)[:, 2:]


def _summed_gradient(x: Volumes, gradient: Float[Array, "b z y x o"]) -> Kernel:
    """Sum x[v + t - 1] gradient[v] over voxels v, for every position t in the kernel, in float32.

    A loop over planes keeps the nine shifted copies of a plane in the cache; each plane is one
    matrix product of 9 * inputs by 3 * outputs.
    """
    inputs, outputs = x.shape[-1], gradient.shape[-1]
    # Copy the operand of fewer channels nine times: exchanging both flips the kernel.
    if inputs > outputs:
        return transpose_kernel(_summed_gradient(gradient, x))
    batch, depth, height, width = x.shape[:4]
    # Channels stand before voxels, so that a shifted copy is made of whole rows.
    planes = pad(x, 2, 3).transpose(0, 1, 4, 2, 3)
    slabs = pad(gradient, 1).transpose(0, 1, 4, 2, 3)

    def add_plane(total: Array, n: Array) -> tuple[Array, None]:
        sample, z = n // depth, n % depth
        # The nine shifted copies of plane z of x: (9 * inputs, voxels).
        plane = planes[sample, z]
        shifted = [plane[:, j : j + height, i : i + width] for j in range(3) for i in range(3)]
        copies = jnp.concatenate(shifted).reshape(9 * inputs, -1)
        # Planes z - 1, z and z + 1 of the gradient: (3 * outputs, voxels).
        slab = lax.dynamic_slice_in_dim(slabs[sample], z, 3).reshape(3 * outputs, -1)
        return total + jnp.dot(copies, slab.T, preferred_element_type=jnp.float32), None

    zeros = jnp.zeros((9 * inputs, 3 * outputs), jnp.float32)
    total, _ = lax.scan(add_plane, zeros, jnp.arange(batch * depth))
    # Plane z of x and plane z + s - 1 of the gradient meet at depth 2 - s of the kernel.
    by_position = total.reshape(3, 3, inputs, 3, outputs)[..., ::-1, :]
    # (y, x, i, z, o) -> (z, y, x, i, o)
    return by_position.transpose(3, 0, 1, 2, 4)


def _image_gradient(x: Float[Array, "b z y x 1"], gradient: Float[Array, "b z y x o"]) -> Kernel:
    """Compute the kernel's gradient for a single input channel, in float32.

    All 27 shifted copies of a plane are one side of a matrix product.
    """
    batch, depth, height, width = x.shape[:4]
    padded = pad(x[..., 0], 1, 2, 3)

    def add_plane(total: Array, n: Array) -> tuple[Array, None]:
        sample, z = n // depth, n % depth
        slab = lax.dynamic_slice_in_dim(padded[sample], z, 3)
        copies = [
            slab[k, j : j + height, i : i + width].reshape(-1) for k, j, i in np.ndindex(3, 3, 3)
        ]
        plane = gradient[sample, z].reshape(height * width, -1)
        return total + jnp.dot(jnp.stack(copies), plane, preferred_element_type=jnp.float32), None

    total, _ = lax.scan(
        add_plane, jnp.zeros((27, gradient.shape[-1]), jnp.float32), jnp.arange(batch * depth)
    )
    return total.reshape(3, 3, 3, 1, -1)
