"""The network's convolutions, each in several implementations that give the same numbers."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes, convolve_packed, transpose_kernel

Implementation = Literal["direct", "packed", "merged", "planar", "stacked", "portable"]
IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)

FASTEST_IMPLEMENTATION: dict[str, Implementation] = {
    "cpu": "planar", "gpu": "merged", "tpu": "stacked",
}  # fmt: skip
"""The implementation of each platform: by measurement on CPUs, by the compiler's account on TPUs;
on GPUs the only one whose whole train step was timed. On all others it is "direct"."""

WINOGRAD_CHANNELS = 32
"""From this many channels on, Winograd's method saves a CPU more products than it adds sums."""

XLA_GRADIENT_CHANNELS = 64
"""From this many channels on, XLA computes a kernel's gradient on a CPU faster than our loop."""


def convolve(
    x: Volumes, kernel: Kernel, stride: int, implementation: Implementation
) -> Float[Array, "b Z Y X o"]:
    """Convolve with a 3x3x3 kernel and one voxel of zeros as padding (PyTorch's padding=1).

    An output axis has ceil(n / stride) voxels.

    - `direct` is XLA's own 3D convolution.
    - `packed` is the same for GPUs, with neighboring voxels as channels where there are few
      (`packing.convolve_packed`).
    - `merged` is `packed`, and in the decoder it also does what comes before
      (`upsampling.convolve_decoder`).
    - `planar` is made of 2D convolutions and matrix products, which XLA's CPU backend runs several
      times faster, gradients most of all.
    - `stacked` is one 2D convolution over all planes. A TPU's compiler cuts volumes with few
      channels into pieces and copies their borders; planes as a batch fill its registers as they
      are (benchmarks/README.md).
    - `portable` chooses the right one of these on each platform of an exported model.
    """
    stacked = partial(_stacked, stride=stride)
    direct = partial(_direct, stride=stride)
    packed = convolve_packed if stride == 1 else direct
    implementations = {
        "direct": direct,
        "packed": packed,
        "merged": packed,
        "planar": _planar if stride == 1 else stacked,
        "stacked": stacked,
    }
    if implementation == "portable":
        out: Array = lax.platform_dependent(
            x,
            kernel,
            cpu=implementations["planar"],
            tpu=stacked,
            default=direct,
        )
        return out
    return implementations[implementation](x, kernel)


def _direct(x: Volumes, kernel: Kernel, stride: int) -> Float[Array, "b Z Y X o"]:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,) * 3,
        padding=((1, 1),) * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


@jax.custom_vjp
def _planar(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve with stride 1 by 2D convolutions of planes."""
    wide = min(kernel.shape[3:]) >= WINOGRAD_CHANNELS
    return _winograd(x, kernel) if wide else _summed(x, kernel)


def _summed(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve by one 2D convolution to three sets of channels, one a depth of the kernel."""
    # The three depths are output channels, because XLA copies nine neighbors of each input value.
    # (z, y, x, i, o) -> (y, x, i, z * o)
    flat = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, kernel.shape[3], -1)
    below, here, above = jnp.split(_convolve_planes(x, flat), 3, axis=-1)
    # Output plane n is the sum over input planes n - 1, n and n + 1.
    return here + _pad(below, 1)[:, :-2] + _pad(above, 1)[:, 2:]


def _winograd(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve by Winograd's F(2, 3) along z: two planes of output by four convolutions, not six.

    The rounding is still float32's.
    """
    dtype, depth = x.dtype, x.shape[1]
    # Sums and differences in half precision would cost digits.
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    # Make the number of output planes even.
    odd = depth % 2
    padded = jnp.pad(x, [(0, 0), (1, 1 + odd), (0, 0), (0, 0), (0, 0)])
    # Output planes 2n and 2n + 1 depend on input planes 2n - 1 .. 2n + 2: a[n], b[n], c[n], d[n].
    a, b, c, d = (padded[:, t : t + depth + odd : 2] for t in range(4))
    # The four convolutions of each pair of output planes.
    outer = kernel[0] + kernel[2]
    first = _convolve_planes(a - c, kernel[0])
    plus = _convolve_planes(b + c, (outer + kernel[1]) / 2)
    minus = _convolve_planes(c - b, (outer - kernel[1]) / 2)
    last = _convolve_planes(b - d, kernel[2])
    # Combine them: a k0 + b k1 + c k2 is plane 2n, and b k0 + c k1 + d k2 is plane 2n + 1.
    pairs = jnp.stack([first + plus + minus, plus - minus - last], axis=2)
    # Interleave the pairs along z, and cut off the plane that made their number even.
    return pairs.reshape(len(x), -1, *pairs.shape[3:])[:, :depth].astype(dtype)


def _planar_forward(x: Volumes, kernel: Kernel) -> tuple[Array, tuple[Array, Array]]:
    return _planar(x, kernel), (x, kernel)


def _planar_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if min(kernel.shape[3:]) >= XLA_GRADIENT_CHANNELS:
        (kernel_gradient,) = jax.vjp(partial(_winograd, x), kernel)[1](gradient)
    else:
        kernel_gradient = _kernel_gradient(x, gradient).astype(kernel.dtype)
    return _planar(gradient, transpose_kernel(kernel)), kernel_gradient


_planar.defvjp(_planar_forward, _planar_backward)


def _stacked(x: Volumes, kernel: Kernel, stride: int) -> Float[Array, "b Z Y X o"]:
    """Convolve by one 2D convolution of three neighboring planes, side by side as channels."""
    planes = -(-x.shape[1] // stride)
    padded = _pad(x, 1)
    # The input planes of kernel depth t are t, t + stride, ...: one for each output plane.
    length = stride * (planes - 1) + 1
    neighbors = jnp.concatenate([padded[:, t : t + length : stride] for t in range(3)], axis=-1)
    # (z, y, x, i, o) -> (y, x, z * i, o)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, -1, kernel.shape[-1])
    return _convolve_planes(neighbors, flat, stride)


def _convolve_planes(
    x: Volumes, kernel: Float[Array, "3 3 i o"], stride: int = 1
) -> Float[Array, "b z Y X o"]:
    """Apply a 2D convolution to every plane."""
    out = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        window_strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(*x.shape[:2], *out.shape[1:])


def _kernel_gradient(x: Volumes, gradient: Float[Array, "b z y x o"]) -> Kernel:
    """Sum x[v + t - 1] gradient[v] over voxels v, for every position t in the kernel, in float32.

    A loop over planes keeps the nine shifted copies of a plane in the cache; each plane is one
    matrix product of 9 * inputs by 3 * outputs.
    """
    inputs, outputs = x.shape[-1], gradient.shape[-1]
    # Copy the operand of fewer channels nine times: exchanging both flips the kernel.
    if inputs > outputs:
        return transpose_kernel(_kernel_gradient(gradient, x))
    batch, depth, height, width = x.shape[:4]
    # Channels stand before voxels, so that a shifted copy is made of whole rows.
    planes = _pad(x, 2, 3).transpose(0, 1, 4, 2, 3)
    slabs = _pad(gradient, 1).transpose(0, 1, 4, 2, 3)

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


def _pad(x: Array, *axes: int) -> Array:
    """Put one voxel of zeros at both ends of some axes."""
    return jnp.pad(x, [(1, 1) if axis in axes else (0, 0) for axis in range(x.ndim)])
