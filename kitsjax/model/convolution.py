"""The network's convolutions in forms that give the same numbers."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Implementation = Literal["direct", "planar", "stacked", "portable"]
IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)

FASTEST_IMPLEMENTATION: dict[str, Implementation] = {"cpu": "planar", "tpu": "stacked"}
"""By platform; elsewhere it is "direct"."""

WINOGRAD_CHANNELS = 32
"""Channels from which saved products outweigh the sums made for it, on a CPU."""

OWN_GRADIENT_CHANNELS = 64
"""Channels from which XLA's CPU backend is the quicker at a 2D kernel's gradient."""

Volumes = Float[Array, "b z y x i"]
Kernel = Float[Array, "3 3 3 i o"]


def convolve(
    x: Volumes, kernel: Kernel, stride: int, implementation: Implementation
) -> Float[Array, "b Z Y X o"]:
    """Convolve with a 3x3x3 kernel, one voxel of zeros around (PyTorch's padding=1).

    An output axis has ceil(n / stride) voxels.

    - `direct` is XLA's own 3D convolution, right for GPUs.
    - `planar` is made of 2D convolutions and matrix products, which XLA's CPU backend runs several
      times faster, gradients most of all.
    - `stacked` is one 2D convolution over all planes. A TPU's compiler cuts volumes with few
      channels into pieces and copies their borders; planes as a batch fill its registers as they
      are (benchmarks/README.md).
    - `portable` is, in a program exported for several platforms, the right one on each.
    """
    stacked = partial(_stacked, stride=stride)
    forms = {
        "direct": partial(_direct, stride=stride),
        "planar": _planar if stride == 1 else stacked,
        "stacked": stacked,
    }
    if implementation == "portable":
        out: Array = lax.platform_dependent(
            x, kernel, cpu=forms["planar"], tpu=stacked, default=forms["direct"]
        )
        return out
    return forms[implementation](x, kernel)


def upsample(
    x: Volumes, kernel: Float[Array, "2 2 2 i o"], implementation: Implementation
) -> Float[Array, "b 2*z 2*y 2*x o"]:
    """Transposed convolution whose kernel and stride are 2: every voxel becomes a block of eight.

    No two input voxels meet in an output, so it is one matrix product to 8 * outputs and a
    rearrangement, faster everywhere than a transposed convolution but for TPUs: they rearrange
    rows and columns slowly, and have a convolution of spread-out planes do it in `stacked`.
    """
    if implementation == "portable":
        out: Array = lax.platform_dependent(
            x, kernel, tpu=_upsample_planes, default=_upsample_product
        )
        return out
    return (
        _upsample_planes(x, kernel) if implementation == "stacked" else _upsample_product(x, kernel)
    )


def _upsample_product(x: Volumes, kernel: Array) -> Array:
    b, z, y, w = x.shape[:4]
    out = jnp.einsum("bzyxi,klmio->bzkylxmo", x, kernel)
    return out.reshape(b, 2 * z, 2 * y, 2 * w, -1)


def _upsample_planes(x: Volumes, kernel: Array) -> Array:
    b, z, y, w, inputs = x.shape
    # (z, y, x, i, o) -> (y, x, i, z * o), mirrored as a transposed convolution's kernel is.
    flat = kernel.transpose(1, 2, 3, 0, 4).reshape(2, 2, inputs, -1)[::-1, ::-1]
    out = lax.conv_general_dilated(
        x.reshape(b * z, y, w, inputs),
        flat,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    planes = jnp.split(out.reshape(b, z, 2 * y, 2 * w, -1), 2, axis=-1)
    return jnp.stack(planes, axis=2).reshape(b, 2 * z, 2 * y, 2 * w, -1)


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
    """Stride 1: 2D convolutions of planes."""
    wide = min(kernel.shape[3:]) >= WINOGRAD_CHANNELS
    return _winograd(x, kernel) if wide else _summed(x, kernel)


def _summed(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """A 2D convolution to three sets of channels, each for another plane; their sum.

    Taps as output channels, not input channels: XLA copies nine neighbors of every input value.
    """
    # (z, y, x, i, o) -> (y, x, i, z * o)
    flat = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, kernel.shape[3], -1)
    below, here, above = jnp.split(_convolve_planes(x, flat), 3, axis=-1)
    return here + _pad(below, 1)[:, :-2] + _pad(above, 1)[:, 2:]


def _winograd(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Winograd's F(2, 3) along the depth: two planes of output by four convolutions, not six.

    The rounding is still float32's.
    """
    dtype, depth = x.dtype, x.shape[1]
    # Sums and differences in half precision would cost digits.
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    odd = depth % 2
    padded = jnp.pad(x, [(0, 0), (1, 1 + odd), (0, 0), (0, 0), (0, 0)])
    # Planes 2n - 1 .. 2n + 2 see to outputs 2n and 2n + 1.
    a, b, c, d = (padded[:, t : t + depth + odd : 2] for t in range(4))
    outer = kernel[0] + kernel[2]
    first = _convolve_planes(a - c, kernel[0])
    plus = _convolve_planes(b + c, (outer + kernel[1]) / 2)
    minus = _convolve_planes(c - b, (outer - kernel[1]) / 2)
    last = _convolve_planes(b - d, kernel[2])
    pairs = jnp.stack([first + plus + minus, plus - minus - last], axis=2)
    return pairs.reshape(len(x), -1, *pairs.shape[3:])[:, :depth].astype(dtype)


def _planar_forward(x: Volumes, kernel: Kernel) -> tuple[Array, tuple[Array, Array]]:
    return _planar(x, kernel), (x, kernel)


def _planar_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # The transpose of a convolution of stride 1 is one with the kernel mirrored.
    mirrored = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    if min(kernel.shape[3:]) >= OWN_GRADIENT_CHANNELS:
        (of_kernel,) = jax.vjp(partial(_winograd, x), kernel)[1](gradient)
    else:
        of_kernel = _kernel_gradient(x, gradient).astype(kernel.dtype)
    return _planar(gradient, mirrored), of_kernel


_planar.defvjp(_planar_forward, _planar_backward)


def _stacked(x: Volumes, kernel: Kernel, stride: int) -> Float[Array, "b Z Y X o"]:
    """Any stride: a 2D convolution of three neighboring planes laid side by side as channels."""
    planes = -(-x.shape[1] // stride)
    padded = _pad(x, 1)
    reach = stride * (planes - 1) + 1
    taps = jnp.concatenate([padded[:, t : t + reach : stride] for t in range(3)], axis=-1)
    # (z, y, x, i, o) -> (y, x, z * i, o)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, -1, kernel.shape[-1])
    return _convolve_planes(taps, flat, stride)


def _convolve_planes(
    x: Volumes, kernel: Float[Array, "3 3 i o"], stride: int = 1
) -> Float[Array, "b z Y X o"]:
    """A 2D convolution of every plane."""
    out = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        window_strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(*x.shape[:2], *out.shape[1:])


def _kernel_gradient(x: Volumes, gradient: Float[Array, "b z y x o"]) -> Kernel:
    """Sum over voxels v of x[v + t - 1] gradient[v] for every tap t, in float32.

    A loop over planes, so that the nine shifted copies of a plane stay in the cache; each is one
    matrix product of 9 * inputs by 3 * outputs.
    """
    inputs, outputs = x.shape[-1], gradient.shape[-1]
    if inputs > outputs:  # copy the narrower side nine times
        return _kernel_gradient(gradient, x)[::-1, ::-1, ::-1].swapaxes(3, 4)
    batch, depth, height, width = x.shape[:4]
    # Channels before voxels: a shifted copy is then made of whole rows.
    planes = _pad(x, 2, 3).transpose(0, 1, 4, 2, 3)
    slabs = _pad(gradient, 1).transpose(0, 1, 4, 2, 3)

    def add_plane(total: Array, n: Array) -> tuple[Array, None]:
        sample, z = n // depth, n % depth
        plane = planes[sample, z]
        shifted = [plane[:, j : j + height, i : i + width] for j in range(3) for i in range(3)]
        taps = jnp.concatenate(shifted).reshape(9 * inputs, -1)
        slab = lax.dynamic_slice_in_dim(slabs[sample], z, 3).reshape(3 * outputs, -1)
        return total + jnp.dot(taps, slab.T, preferred_element_type=jnp.float32), None

    zeros = jnp.zeros((9 * inputs, 3 * outputs), jnp.float32)
    total, _ = lax.scan(add_plane, zeros, jnp.arange(batch * depth))
    # Plane z of x meets plane z + s - 1 of the gradient: that is depth tap t = 2 - s.
    by_tap = total.reshape(3, 3, inputs, 3, outputs)[..., ::-1, :]
    return by_tap.transpose(3, 0, 1, 2, 4)


def _pad(x: Array, *axes: int) -> Array:
    return jnp.pad(x, [(1, 1) if axis in axes else (0, 0) for axis in range(x.ndim)])
