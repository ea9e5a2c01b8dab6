"""The 3x3x3 convolution in two forms that give the same numbers."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Form = Literal["direct", "planar"]
FORMS: tuple[Form, ...] = get_args(Form)


def convolve(
    x: Float[Array, "b z y x i"],
    kernel: Float[Array, "3 3 3 i o"],
    stride: int,
    form: Form,
) -> Float[Array, "b Z Y X o"]:
    """Convolve with a 3x3x3 kernel, one voxel of zeros around (PyTorch's padding=1).

    An output axis has ceil(n / stride) voxels. `direct` is XLA's own 3D convolution, right for
    GPUs and TPUs; `planar` is built of 2D convolutions, which XLA's CPU backend runs several
    times faster.
    """
    return _planar(x, kernel, stride) if form == "planar" else _direct(x, kernel, stride)


def _direct(
    x: Float[Array, "b z y x i"], kernel: Float[Array, "3 3 3 i o"], stride: int
) -> Float[Array, "b Z Y X o"]:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,) * 3,
        padding=((1, 1),) * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def _planar(
    x: Float[Array, "b z y x i"], kernel: Float[Array, "3 3 3 i o"], stride: int
) -> Float[Array, "b Z Y X o"]:
    batch, depth = x.shape[:2]
    planes = -(-depth // stride)
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    reach = stride * (planes - 1) + 1
    taps = jnp.concatenate([padded[:, t : t + reach : stride] for t in range(3)], axis=-1)
    # (z, y, x, i, o) -> (y, x, z * i, o): the depth taps become channels.
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, -1, kernel.shape[-1])
    out = lax.conv_general_dilated(
        taps.reshape(batch * planes, *taps.shape[2:]),
        flat,
        window_strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(batch, planes, *out.shape[1:])
