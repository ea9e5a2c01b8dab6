"""Convolutions of volumes made of 2D convolutions of planes."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes

AnyVolumes = Float[Array, "b z y x _"]
"""Volumes of any number of channels."""

SMALL_DEPTH = 12
"""A volume of at most so many planes is small on a CPU: all of it is computed at once."""


def convolve_neighbors(
    volumes: list[AnyVolumes], kernel: Kernel, stride: int = 1
) -> Float[Array, "b Z Y X o"]:
    """Convolve by one 2D convolution of slices: three neighboring planes stand side by side.

    Several volumes are convolved as if their channels were one volume's.
    """
    planes = -(-volumes[0].shape[1] // stride)
    # The input planes of kernel depth t are t, t + stride, ...: one for each output plane.
    length = stride * (planes - 1) + 1
    padded = [pad(x, 1) for x in volumes]
    neighbors = [each[:, t : t + length : stride] for t in range(3) for each in padded]
    return convolve_planes(jnp.concatenate(neighbors, -1), flatten_kernel(kernel), stride)


def flatten_kernel(kernel: Float[Array, "k k k i o"]) -> Float[Array, "k k k*i o"]:
    """Make the kernel of planes that stand side by side as channels, one a depth of the kernel."""
    # (z, y, x, i, o) -> (y, x, z * i, o)
    return kernel.transpose(1, 2, 0, 3, 4).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])


def convolve_planes(
    x: Volumes,
    kernel: Float[Array, "k k i o"],
    stride: int = 1,
    padding: tuple[int, int] = (1, 1),
) -> Float[Array, "b z Y X o"]:
    """Apply a 2D convolution to every plane, with voxels of zeros at both ends of y and x."""
    out = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(*x.shape[:2], *out.shape[1:])


def pad(x: Array, *axes: int) -> Array:
    """Put one voxel of zeros at both ends of some axes."""
    return jnp.pad(x, [(1, 1) if axis in axes else (0, 0) for axis in range(x.ndim)])


def take_plane(x: Volumes, sample: Array, z: Array) -> Float[Array, "y x i"]:
    """Take plane z of a sample; zeros if z is outside."""
    depth = x.shape[1]
    plane = x[sample, jnp.clip(z, 0, depth - 1)]
    return jnp.where((z >= 0) & (z < depth), plane, 0)
