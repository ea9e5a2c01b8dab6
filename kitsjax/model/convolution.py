"""The 3x3x3 convolution in forms that give the same numbers."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Form = Literal["direct", "planar", "portable"]
FORMS: tuple[Form, ...] = get_args(Form)

Volumes = Float[Array, "b z y x i"]
Kernel = Float[Array, "3 3 3 i o"]


def convolve(x: Volumes, kernel: Kernel, stride: int, form: Form) -> Float[Array, "b Z Y X o"]:
    """Convolve with a 3x3x3 kernel, one voxel of zeros around (PyTorch's padding=1).

    An output axis has ceil(n / stride) voxels. `direct` is XLA's own 3D convolution, right for
    GPUs and TPUs; `planar` is made of 2D convolutions and matrix products, which XLA's CPU
    backend runs several times faster, gradients most of all. `portable` is, in a program exported
    for several platforms, the right one on each.
    """
    planar = _planar if stride == 1 else partial(_planar_strided, stride=stride)
    direct = partial(_direct, stride=stride)
    if form == "portable":
        out: Array = lax.platform_dependent(x, kernel, cpu=planar, default=direct)
        return out
    return direct(x, kernel) if form == "direct" else planar(x, kernel)


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
    """Stride 1: a 2D convolution to three sets of channels, each for another plane; their sum.

    Taps as output channels, not input channels: XLA copies nine neighbors of every input value.
    """
    # (z, y, x, i, o) -> (y, x, i, z * o)
    flat = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, kernel.shape[3], -1)
    out = _convolve_planes(x.reshape(-1, *x.shape[2:]), flat, 1)
    below, here, above = jnp.split(out.reshape(*x.shape[:4], -1), 3, axis=-1)
    return here + _pad(below, 1)[:, :-2] + _pad(above, 1)[:, 2:]


def _planar_forward(x: Volumes, kernel: Kernel) -> tuple[Array, tuple[Array, Array]]:
    return _planar(x, kernel), (x, kernel)


def _planar_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # The transpose of a convolution of stride 1 is one with the kernel mirrored.
    mirrored = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    return _planar(gradient, mirrored), _kernel_gradient(x, gradient).astype(kernel.dtype)


_planar.defvjp(_planar_forward, _planar_backward)


def _planar_strided(x: Volumes, kernel: Kernel, stride: int) -> Float[Array, "b Z Y X o"]:
    """Any stride: a 2D convolution of three neighboring planes laid side by side as channels."""
    batch, depth = x.shape[:2]
    planes = -(-depth // stride)
    padded = _pad(x, 1)
    reach = stride * (planes - 1) + 1
    taps = jnp.concatenate([padded[:, t : t + reach : stride] for t in range(3)], axis=-1)
    # (z, y, x, i, o) -> (y, x, z * i, o)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, -1, kernel.shape[-1])
    out = _convolve_planes(taps.reshape(batch * planes, *taps.shape[2:]), flat, stride)
    return out.reshape(batch, planes, *out.shape[1:])


def _convolve_planes(
    x: Float[Array, "n y x i"], kernel: Float[Array, "3 3 i o"], stride: int
) -> Float[Array, "n Y X o"]:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


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
