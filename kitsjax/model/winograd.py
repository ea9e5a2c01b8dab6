"""Winograd's method along z: a few planes of a convolution's result by fewer 2D convolutions.

S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for
Convolutional Neural Networks, 2016.
"""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.packing import Kernel, Volumes
from kitsjax.model.planes import SMALL_DEPTH, convolve_planes, pad, take_plane


class _Winograd(NamedTuple):
    """Winograd's F(m, 3): m results of a kernel of three from m + 2 products, not 3 m.

    The results y[n] = d[n] k[0] + d[n + 1] k[1] + d[n + 2] k[2] are
    outputs @ ((kernel @ k) * (inputs @ d)).
    """

    inputs: Float[np.ndarray, "m+2 m+2"]
    kernel: Float[np.ndarray, "m+2 3"]
    outputs: Float[np.ndarray, "m m+2"]


def _make_winograd(points: list[float]) -> _Winograd:
    """Make F(m, 3) from the m + 1 finite points at which it multiplies polynomials (Toom-Cook)."""
    products = len(points) + 1
    inputs = np.zeros((products, products))
    # Each row holds the polynomial that is zero at all other points, the last row at all of them.
    for row, point in enumerate(points):
        inputs[row, :-1] = np.poly([other for other in points if other != point])[::-1]
    inputs[-1] = np.poly(points)[::-1]
    values = [np.polyval(inputs[row, ::-1], point) for row, point in enumerate(points)]
    kernel = np.vander(points, 3, increasing=True) / np.array(values)[:, None]
    outputs = np.vander(points, products - 2, increasing=True)
    # The highest power is the product at infinity.
    return _Winograd(
        inputs,
        np.vstack([kernel, np.eye(3)[-1:]]),
        np.vstack([outputs, np.eye(products - 2)[-1:]]).T,
    )


_PAIRS = _make_winograd([0.0, 1.0, -1.0])

# The rounding errors are twice those of the direct method, and with 0, 1, -1, 2, -2 three times.
_FOURS = _make_winograd([0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])


def convolve_winograd(x: Volumes, kernel: Kernel) -> Float[Array, "b z y x o"]:
    """Convolve by Winograd's method along z; the rounding is still float32's."""
    batch, depth = x.shape[:2]
    method, groups = _choose_method(depth)
    # Sums and differences in half precision would cost digits.
    kernels = _combine(method.kernel, kernel.astype(jnp.float32))

    def convolve_groups(planes: list[Array]) -> Array:
        """Convolve from plane t of groups (batch, groups, y, x, i) for each t."""
        combined = _combine(method.inputs, planes)
        products = [convolve_planes(*pair) for pair in zip(combined, kernels, strict=True)]
        out = jnp.stack(_combine(method.outputs, products), axis=2).astype(x.dtype)
        return out.reshape(len(out), -1, *out.shape[3:])

    if depth <= SMALL_DEPTH:
        size = len(method.outputs)
        padded = jnp.pad(x, [(0, 0), (1, 1 + groups * size - depth), (0, 0), (0, 0), (0, 0)])
        last = size * (groups - 1)
        planes = [padded[:, t : t + last + 1 : size] for t in range(size + 2)]
        out = convolve_groups([each.astype(jnp.float32) for each in planes])
    else:
        each = lax.map(
            lambda n: convolve_groups(_take_planes(x, n, method, 1)), jnp.arange(batch * groups)
        )
        out = each.reshape(batch, -1, *each.shape[3:])
    return out[:, :depth]


def _choose_method(depth: int) -> tuple[_Winograd, int]:
    """Choose Winograd's method for volumes of so many planes; return the number of groups, too.

    In small volumes more kernels cost more than fewer products save.
    """
    method = _PAIRS if depth <= SMALL_DEPTH else _FOURS
    return method, -(-depth // len(method.outputs))


def _take_planes(x: Volumes, n: Array, method: _Winograd, margin: int) -> list[Array]:
    """Take the planes (1, 1, y, x, c) of group n, counted over all samples, in float32.

    The group has `margin` more planes at both ends.
    """
    size = len(method.outputs)
    groups = -(-x.shape[1] // size)
    sample, start = n // groups, size * (n % groups)
    return [
        take_plane(x, sample, start + t).astype(jnp.float32)[None, None]
        for t in range(-margin, size + margin)
    ]


def _combine(factors: np.ndarray, parts: Iterable[Array]) -> list[Array]:
    """Make a weighted sum of the parts for each row of the factors."""
    parts = list(parts)
    return [
        reduce(
            jnp.add,
            [
                part if factor == 1 else part * np.float32(factor)
                for factor, part in zip(row, parts, strict=True)
                if abs(factor) > 1e-9
            ],
        )
        for row in factors
    ]


def compute_kernel_gradient(x: Volumes, gradient: Float[Array, "b z y x o"]) -> Kernel:
    """Compute the kernel's gradient by Winograd's method along z, in float32.

    The products of Winograd's method are bilinear, so that its gradient takes the same few.
    """
    (batch, _, height, width, inputs), outputs = x.shape, gradient.shape[-1]
    method, groups = _choose_method(x.shape[1])

    def add_group(totals: list[Array], n: Array) -> tuple[list[Array], None]:
        xs = _combine(method.inputs, _take_planes(x, n, method, 1))
        ys = _combine(method.outputs.T, _take_planes(gradient, n, method, 0))
        # Three positions along x and three along y are nine products of matrices in one.
        for index, (one, other) in enumerate(zip(xs, ys, strict=True)):
            left, right = pad(one, 3), pad(other, 2)
            columns = [left[..., t : t + width, :] for t in range(3)]
            rows = [right[:, :, t : t + height] for t in range(3)]
            product = jnp.dot(
                jnp.concatenate(columns, -1).reshape(-1, 3 * inputs).T,
                jnp.concatenate(rows, -1).reshape(-1, 3 * outputs),
            )
            totals[index] += product
        return totals, None

    zeros = [jnp.zeros((3 * inputs, 3 * outputs), jnp.float32)] * len(method.inputs)
    totals, _ = lax.scan(add_group, zeros, jnp.arange(batch * groups))
    by_depth = jnp.stack(_combine(method.kernel.T, totals))
    # Row y of x and row y + s - 1 of the gradient meet at position 2 - s of the kernel.
    # (z, x, i, s, o) -> (z, y, x, i, o)
    return by_depth.reshape(3, 3, inputs, 3, outputs)[..., ::-1, :].transpose(0, 3, 1, 2, 4)
