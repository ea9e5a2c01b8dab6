"""Convolutions of stride 2 for CPUs, a plane of the result at a time.

Along each axis, voxel n of the result depends on the voxels 2 n - 1, 2 n and 2 n + 1 of the input:
the kernel's middle position meets the even voxels, and the other two the odd ones. So the gradients
are those of convolutions without a stride, of even and of odd voxels, in which nothing is
multiplied by the zeros that XLA would put between the voxels of the result.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes
from kitsjax.model.planes import (
    SMALL_DEPTH,
    convolve_neighbors,
    convolve_planes,
    flatten_kernel,
    take_plane,
)

_PLACES = ((1, 1), (0, 0), (0, 1))
"""What each position of the kernel meets along an axis: this (0) or the next (1) voxel of the
result, and the even (0) or odd (1) voxels of the input."""

_MEETS = np.zeros((3, 2, 2), np.float32)
"""The same as numbers: 1 where a position, a voxel of the result and one of the input meet."""
_MEETS[range(3), *zip(*_PLACES, strict=True)] = 1

_EXACT = lax.Precision.HIGHEST
"""Sums of one number and zeros stay as they are on every platform."""


def convolve_halving(x: Volumes, kernel: Kernel) -> Float[Array, "b Z Y X o"]:
    """Convolve with stride 2 and one voxel of zeros as padding.

    An output axis has ceil(n / 2) voxels. Small volumes are left to XLA.
    """
    if x.shape[1] <= 2 * SMALL_DEPTH:
        return convolve_neighbors([x], kernel, 2)
    # One more voxel of zeros at the end of an odd axis changes nothing.
    return _convolve(jnp.pad(x, [(0, 0), *((0, n % 2) for n in x.shape[1:4]), (0, 0)]), kernel)


@jax.custom_vjp
def _convolve(x: Volumes, kernel: Kernel) -> Float[Array, "b Z Y X o"]:
    depth = x.shape[1] // 2
    flat = flatten_kernel(kernel)

    def convolve_plane(n: Array) -> Float[Array, "Y X o"]:
        sample, z = n // depth, 2 * (n % depth)
        # The three planes stand side by side as channels.
        planes = jnp.concatenate([take_plane(x, sample, z + t) for t in (-1, 0, 1)], -1)
        return convolve_planes(planes[None, None], flat, 2)[0, 0]

    out = lax.map(convolve_plane, jnp.arange(len(x) * depth))
    return out.reshape(len(x), depth, *out.shape[1:])


def _forward(
    x: Volumes, kernel: Kernel
) -> tuple[Float[Array, "b Z Y X o"], tuple[Volumes, Kernel]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(
    saved: tuple[Volumes, Kernel], gradient: Float[Array, "b Z Y X o"]
) -> tuple[Volumes, Kernel]:
    x, kernel = saved
    return _input_gradient(gradient, kernel), _kernel_gradient(x, gradient).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


def _input_gradient(
    gradient: Float[Array, "b z y x o"], kernel: Kernel
) -> Float[Array, "b Z Y X i"]:
    """Compute the gradient of the input: each plane of the result gives an even and an odd one."""
    batch, depth, height, width = gradient.shape[:4]
    below, here, above = kernel
    even = _interleaving_kernel(here)
    odd = jnp.concatenate([_interleaving_kernel(above), _interleaving_kernel(below)], 2)

    def convolve_plane(n: Array) -> Float[Array, "2 Y X i"]:
        """Compute the even plane and the odd one that belong to plane n of the gradients."""
        sample, z = n // depth, n % depth
        this, following = (take_plane(gradient, sample, z + s) for s in (0, 1))
        out = [
            convolve_planes(operand[None, None], weights, padding=(0, 1))
            for operand, weights in [(this, even), (jnp.concatenate([this, following], -1), odd)]
        ]
        # (plane, y, x, even or odd y, even or odd x, i)
        blocks = jnp.stack(out).reshape(2, height, width, 2, 2, -1)
        return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(2, 2 * height, 2 * width, -1)

    planes = lax.map(convolve_plane, jnp.arange(batch * depth))
    return planes.reshape(batch, 2 * depth, *planes.shape[2:])


def _interleaving_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "2 2 o 4*i"]:
    """Make the kernel that computes the even and odd voxels of a plane as channels."""
    # (this or next y, this or next x, o, even or odd y, even or odd x, i)
    meets = _MEETS.astype(kernel.dtype)
    blocks = jnp.einsum("apy,bqx,abio->pqoyxi", meets, meets, kernel, precision=_EXACT)
    return blocks.reshape(2, 2, kernel.shape[3], -1)


def _kernel_gradient(x: Volumes, gradient: Float[Array, "b Z Y X o"]) -> Kernel:
    """Compute the kernel's gradient, in float32."""
    (batch, depth, height, width, outputs), inputs = gradient.shape, x.shape[-1]

    def shift(plane: Float[Array, "Y X o"]) -> Float[Array, "voxels 4*o"]:
        """Put this and the next voxels along y and x side by side as channels."""
        padded = jnp.pad(plane, [(0, 1), (0, 1), (0, 0)])
        shifted = [padded[s : s + height, t : t + width] for s, t in np.ndindex(2, 2)]
        return jnp.concatenate(shifted, -1).reshape(height * width, -1)

    # Positions of the kernel along z, and even or odd rows of x.
    kinds = list(np.ndindex(3, 2))

    def add_plane(totals: list[Array], n: Array) -> tuple[list[Array], None]:
        sample, z = n // depth, n % depth
        planes = [take_plane(x, sample, 2 * z + odd) for odd in (0, 1)]
        shifted = [shift(take_plane(gradient, sample, z + following)) for following in (0, 1)]
        for index, (position, odd_row) in enumerate(kinds):
            following, odd = _PLACES[position]
            # Even and odd voxels along x are channels.
            rows = planes[odd].reshape(height, 2, width, 2 * inputs)[:, odd_row]
            # Even rows do not meet the next one of the gradient.
            met = shifted[following][:, : 2 * outputs * (1 + odd_row)]
            product = jnp.dot(
                rows.reshape(-1, 2 * inputs).T, met, preferred_element_type=jnp.float32
            )
            totals[index] += product
        return totals, None

    zeros = [jnp.zeros((2 * inputs, 2 * outputs * (1 + odd)), jnp.float32) for _, odd in kinds]
    totals, _ = lax.scan(add_plane, zeros, jnp.arange(batch * depth))
    # (position along z, even or odd y, even or odd x, i, this or next y, this or next x, o)
    whole = [jnp.pad(total, [(0, 0), (0, 4 * outputs - total.shape[1])]) for total in totals]
    products = jnp.stack(whole).reshape(3, 2, 2, inputs, 2, 2, outputs)
    return jnp.einsum("bqy,crx,ayxiqro->abcio", _MEETS, _MEETS, products, precision=_EXACT)
