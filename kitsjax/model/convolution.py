"""The network's convolutions, each in several implementations that give the same numbers."""

from functools import partial
from typing import Literal

from jax import lax
from jaxtyping import Array, Float

from kitsjax.model.halving import convolve_halving
from kitsjax.model.packing import Kernel, Volumes, convolve_packed
from kitsjax.model.planar import convolve_planar
from kitsjax.model.stacked import convolve_stacked

Implementation = Literal["direct", "packed", "merged", "planar", "stacked", "portable"]

FASTEST_IMPLEMENTATION: dict[str, Implementation] = {
    "cpu": "planar", "gpu": "merged", "tpu": "stacked",
}  # fmt: skip
"""The implementation of each platform: by measurement on CPUs, by the compiler's account on TPUs;
on GPUs the only one whose whole train step was timed. On all others it is "direct"."""


def convolve(
    x: Volumes, kernel: Kernel, stride: int, implementation: Implementation
) -> Float[Array, "b Z Y X o"]:
    """Convolve with a 3x3x3 kernel and one voxel of zeros as padding (PyTorch's padding=1).

    An output axis has ceil(n / stride) voxels.

    - `direct` is XLA's own 3D convolution.
    - `packed` is the same for GPUs, with neighboring voxels as channels where there are few
      (`packing.convolve_packed`).
    - `merged` is `packed`, and in the decoder it also does what comes before
      (`decoder.convolve_decoder`).
    - `planar` is made of 2D convolutions and matrix products, for CPUs (`planar.convolve_planar`,
      `halving.convolve_halving`).
    - `stacked` is one 2D convolution over all planes. A TPU's compiler cuts volumes with few
      channels into pieces and copies their borders; planes as a batch fill its registers as they
      are (benchmarks/README.md).
    - `portable` chooses the right one of these on each platform of an exported model.
    """
    stacked = partial(convolve_stacked, stride=stride)
    direct = partial(_direct, stride=stride)
    packed = convolve_packed if stride == 1 else direct
    implementations = {
        "direct": direct,
        "packed": packed,
        "merged": packed,
        "planar": convolve_planar if stride == 1 else convolve_halving,
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
