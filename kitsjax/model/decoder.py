"""How a decoder level begins: upsampling, concatenation with the skip connection, convolution."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from kitsjax.model.convolution import Implementation, convolve
from kitsjax.model.packing import Kernel, Volumes, convolve_packed
from kitsjax.model.stacked import convolve_together
from kitsjax.model.upsampling import UpKernel, convolve_transposed, upsample

MergedKernel = Float[Array, "4 4 4 i o"]

LEAST_RATIO = 4
"""A merged kernel is made in float32, which is slow on a GPU; by the profile of a step on an H100
it costs more than it saves where it is half as large as the volume."""


class DecoderInput(NamedTuple):
    """What a decoder level convolves: an upsampled volume and a skip connection, as channels.

    Attributes:
        coarse: the volume to upsample.
        up_kernel: kernel of the transposed convolution that upsamples it.
        up_bias: its bias.
        skip: the encoder's volume, twice as long along every axis.
    """

    coarse: Volumes
    up_kernel: UpKernel
    up_bias: Float[Array, " o"]
    skip: Volumes

    @property
    def channels(self) -> int:
        """Number of channels of both together."""
        return int(self.up_bias.size + self.skip.shape[-1])


def convolve_decoder(
    inputs: DecoderInput, kernel: Kernel, dtype: DTypeLike, implementation: Implementation
) -> Float[Array, "b z y x o"]:
    """Upsample, concatenate and convolve, up to a constant in each channel.

    The norm that follows takes the constant away. `merged` merges the upsampling and the
    convolution (`convolve_merged`) where the volume to upsample holds `LEAST_RATIO` times as many
    numbers as the merged kernel. `stacked` convolves both volumes without concatenating them
    (`convolve_together`). The others, and `portable` on every platform, do one after the other.

    Args:
        inputs: what is convolved; the kernel's first inputs are the upsampled channels.
        kernel: as in `convolve`, float32.
        dtype: dtype of the computation and of the result.
        implementation: see `convolve`.
    """
    coarse, up_kernel, up_bias, skip = inputs
    kernel_size = 64 * coarse.shape[-1] * kernel.shape[-1]
    if implementation == "merged" and coarse.size > LEAST_RATIO * kernel_size:
        return convolve_merged(inputs, kernel, dtype)
    upsampled = upsample(coarse.astype(dtype), up_kernel.astype(dtype), implementation)
    both = [_add_bias(upsampled, up_bias), skip.astype(dtype)]
    if implementation == "stacked":
        return convolve_together(both, kernel.astype(dtype))
    return convolve(jnp.concatenate(both, axis=-1), kernel.astype(dtype), 1, implementation)


def convolve_merged(
    inputs: DecoderInput, kernel: Kernel, dtype: DTypeLike
) -> Float[Array, "b z y x o"]:
    """Convolve as `convolve_decoder` does, without computing what is convolved.

    A convolution of concatenated volumes is the sum of two. Nothing nonlinear stands between the
    transposed convolution and the convolution of its result, so that these are one transposed
    convolution of a 4x4x4 kernel. Neither the upsampled volume nor the concatenated one is written,
    nor are their gradients.
    """
    coarse, up_kernel, up_bias, skip = inputs
    features = up_bias.size
    upper, lower = kernel[..., :features, :], kernel[..., features:, :]
    merged = _merge_kernels(up_kernel, upper).astype(dtype)
    out = convolve_packed(
        skip.astype(dtype),
        lower.astype(dtype),
        convolve_transposed(coarse.astype(dtype), merged, 1),
    )
    return _add_border(out, _border_table(up_bias, upper))


def _merge_kernels(
    up_kernel: Float[Array, "2 2 2 i m"], kernel: Float[Array, "3 3 3 m o"]
) -> MergedKernel:
    """Convolve the kernel of a transposed convolution with that of the convolution after it."""
    # The input channels stand where a batch of volumes does.
    merged = lax.conv_general_dilated(
        up_kernel.transpose(3, 0, 1, 2, 4),
        kernel,
        window_strides=(1, 1, 1),
        padding=((2, 2),) * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=lax.Precision.HIGHEST,
    )
    return merged.transpose(1, 2, 3, 0, 4)


@jax.custom_vjp
def _add_bias(x: Float[Array, "b z y x o"], bias: Float[Array, " o"]) -> Float[Array, "b z y x o"]:
    """Add a bias in the type of x; its gradient is summed in float32 at least.

    JAX would sum it in the type of x, and in bfloat16 a sum of millions soon stops growing.
    """
    return x + bias.astype(x.dtype).reshape(1, 1, 1, 1, -1)


def _add_bias_forward(x: Array, bias: Array) -> tuple[Array, Array]:
    return _add_bias(x, bias), bias


def _add_bias_backward(bias: Array, gradient: Array) -> tuple[Array, Array]:
    wide = jnp.float32 if bias.dtype.itemsize < 4 else bias.dtype
    return gradient, gradient.astype(wide).sum((0, 1, 2, 3)).astype(bias.dtype)


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def _border_table(bias: Float[Array, " i"], kernel: Kernel) -> Float[Array, "3 3 3 o"]:
    """Compute how much less a bias before a convolution adds on the border than inside.

    Positions of the kernel beyond the border see no bias. Along each axis of the table stand the
    first voxel, all inner voxels and the last voxel.
    """
    precision = lax.Precision.HIGHEST
    added = jnp.einsum("zyxio,i->zyxo", kernel, bias, precision=precision)
    within = jnp.array([[0, 1, 1], [1, 1, 1], [1, 1, 0]], added.dtype)
    sums = jnp.einsum("az,by,cx,zyxo->abco", within, within, within, added, precision=precision)
    return sums - sums[1:2, 1:2, 1:2]


@jax.custom_vjp
def _add_border(
    out: Float[Array, "b z y x o"], table: Float[Array, "3 3 3 o"]
) -> Float[Array, "b z y x o"]:
    """Add a table's values to the voxels on the six faces of each volume, in place."""
    rows = table.astype(out.dtype)
    boxes = list(_faces(out.shape[1:4]))
    faces = [out[:, *box] + rows[z][:, y][:, :, x][None] for box, (z, y, x) in boxes]
    # Faces that were computed before are written in place. Otherwise XLA computes and writes each
    # in one kernel, which passes over the whole volume (2.9 ms of a step on an H100, now 0.1).
    out, faces = lax.optimization_barrier((out, faces))
    for (box, _), face in zip(boxes, faces, strict=True):
        out = lax.dynamic_update_slice(out, face, (0, *(side.start for side in box), 0))
    # Otherwise XLA adds the faces wherever the result is read, in passes over the whole volume.
    whole: Array = lax.optimization_barrier(out)
    return whole


def _border_forward(out: Array, table: Array) -> tuple[Array, Array]:
    return _add_border(out, table), table


def _border_backward(table: Array, gradient: Array) -> tuple[Array, Array]:
    total = jnp.zeros_like(table)
    for box, places in _faces(gradient.shape[1:4]):
        z, y, x = (jax.nn.one_hot(place, 3, dtype=table.dtype) for place in places)
        face = gradient[:, *box].astype(table.dtype).sum(0)
        total += jnp.einsum("zyxo,za,yb,xc->abco", face, z, y, x, precision=lax.Precision.HIGHEST)
    return gradient, total


_add_border.defvjp(_border_forward, _border_backward)


def _faces(shape: tuple[int, ...]) -> Iterator[tuple[list[slice], list[np.ndarray]]]:
    """List six boxes (z, y, x) that hold each border voxel once, and their table's rows."""
    places = [np.minimum(np.arange(n), 1) + (np.arange(n) == n - 1) for n in shape]
    for axis in range(3):
        for place in (0, shape[axis] - 1):
            # The axes before this one leave out their ends, which have been listed.
            start = (*(1,) * axis, place, *(0,) * (2 - axis))
            end = (*(n - 1 for n in shape[:axis]), place + 1, *shape[axis + 1 :])
            box = list(map(slice, start, end))
            yield box, [rows[side] for rows, side in zip(places, box, strict=True)]
