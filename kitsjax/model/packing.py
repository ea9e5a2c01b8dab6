"""Convolutions of few channels on a GPU, with neighboring voxels packed into channels.

The matrix units of a GPU multiply tiles of 64 channels, so that a layer of 32 leaves half of a tile
empty, and one of a single channel nearly all. Voxels that are neighbors along x lie side by side in
memory: blocks of f of them are the same array as one with f times the channels. The convolution
becomes one of blocks:

    x, padded      | 0  x0 | x1 x2 | x3 x4 | x5  0 |      f = 2
    result             | y0 y1 | y2 y3 | y4 y5 |

The blocks of x begin one voxel earlier than those of the result, so that two of them hold all that
a block of the result depends on. Zeros stand in the kernel where a voxel is no neighbor. That is
2 f / 3 times the operations, in less time: on an H100 the gradient of a kernel of 32 to 32 channels
took 1.7 ms instead of 5.0 (benchmarks/README.md).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Volumes = Float[Array, "b z y x i"]
Kernel = Float[Array, "3 3 3 i o"]

FULL_CHANNELS = 64
"""So many output channels fill a tile; layers with fewer are packed."""

LEAST_INPUTS = 8
"""cuDNN's kernels for matrix units read so many channels at once."""


def choose_packing(kernel_shape: tuple[int, ...], width: int) -> int:
    """Choose how many voxels along x make a block: a power of two; 1: nothing is packed.

    Args:
        kernel_shape: (z, y, x, inputs, outputs).
        width: voxels along x, which the result divides.
    """
    inputs, outputs = kernel_shape[3:]
    packing = 1
    while width % (2 * packing) == 0 and (
        2 * packing * outputs <= FULL_CHANNELS or packing * inputs < LEAST_INPUTS
    ):
        packing *= 2
    return packing


def transpose_kernel(kernel: Kernel) -> Float[Array, "3 3 3 o i"]:
    """Return the kernel whose convolution is the transpose of this one's, at stride 1."""
    return kernel[::-1, ::-1, ::-1].swapaxes(3, 4)


def convolve_packed(
    x: Volumes, kernel: Kernel, added: Float[Array, "b z y x o"] | None = None
) -> Float[Array, "b z y x o"]:
    """Convolve with stride 1 and one voxel of zeros as padding, packed where that is faster.

    Args:
        x: what is convolved.
        kernel: of x's dtype.
        added: is added to the result, in the same pass.
    """
    out = _convolve_differentiably(x, kernel)
    if added is not None:
        # cuDNN adds in the convolution's own pass, but XLA sees that through no reshape.
        out += added.reshape(out.shape)
    unpacked: Array = out.reshape(*x.shape[:4], kernel.shape[4])
    if out.shape != unpacked.shape:
        # XLA would move the reshape into what follows, and then store a mask of the activation.
        unpacked = lax.optimization_barrier(unpacked)
    return unpacked


@jax.custom_vjp
def _convolve_differentiably(x: Volumes, kernel: Kernel) -> Float[Array, "b z y n m"]:
    return _convolve(x, kernel)


def _forward(x: Volumes, kernel: Kernel) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    unpacked = gradient.reshape(*x.shape[:4], kernel.shape[4])
    (kernel_gradient,) = jax.vjp(lambda kernel: _convolve(x, kernel), kernel)[1](gradient)
    return convolve_packed(unpacked, transpose_kernel(kernel)), kernel_gradient


_convolve_differentiably.defvjp(_forward, _backward)


def _convolve(x: Volumes, kernel: Kernel) -> Float[Array, "b z y n m"]:
    """Convolve blocks of voxels; the result has a block's voxels as channels."""
    packing = choose_packing(kernel.shape, x.shape[3])
    ends = (1, 1)
    if packing > 1:
        *head, width, inputs = x.shape
        # One voxel before the first block, and what fills the last.
        padded = jnp.pad(x, [(0, 0)] * 3 + [(1, packing - 1), (0, 0)])
        x = padded.reshape(*head, width // packing + 1, packing * inputs)
        kernel, ends = _pack_kernel(kernel, packing), (0, 0)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1, 1),
        padding=((1, 1), (1, 1), ends),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def _pack_kernel(kernel: Kernel, packing: int) -> Float[Array, "3 3 2 m n"]:
    """Make the kernel of blocks: from two blocks of inputs to a block of outputs."""
    # Voxel p of a block of the result depends on positions p to p + 2 of the two blocks.
    shifted = [
        jnp.pad(kernel, [(0, 0)] * 2 + [(p, 2 * packing - 3 - p)] + [(0, 0)] * 2)
        for p in range(packing)
    ]
    return jnp.stack(shifted, axis=4).reshape(3, 3, 2, packing * kernel.shape[3], -1)
