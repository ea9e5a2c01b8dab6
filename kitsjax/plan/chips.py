"""Accelerators by what their makers publish: memory, matrix rate, bandwidth."""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """One device, as JAX counts them.

    Attributes:
        name: what it is sold as.
        memory_bytes: of its high-bandwidth memory.
        flops: dense bfloat16 operations a second.
        bandwidth: bytes a second to and from that memory.
    """

    name: str
    memory_bytes: float
    flops: float
    bandwidth: float


CHIPS: dict[str, Chip] = {
    # Google Cloud's pages of each TPU; a v4 or v5p chip is one device of two cores.
    "TPU v4": Chip("TPU v4", 32 * GIB, 275e12, 1228e9),
    "TPU v5 lite": Chip("TPU v5e", 16 * GIB, 197e12, 819e9),
    "TPU v5": Chip("TPU v5p", 95 * GIB, 459e12, 2765e9),
    "TPU v6 lite": Chip("TPU v6e", 32 * GIB, 918e12, 1640e9),
    # NVIDIA's data sheets, without sparsity.
    "NVIDIA A100-SXM4-40GB": Chip("A100 40 GB", 40e9, 312e12, 1555e9),
    "NVIDIA A100-SXM4-80GB": Chip("A100 80 GB", 80e9, 312e12, 2039e9),
    "NVIDIA H100 80GB HBM3": Chip("H100", 80e9, 989e12, 3350e9),
    "NVIDIA H200": Chip("H200", 141e9, 989e12, 4800e9),
}
"""By the kind that JAX tells of a device."""
