"""Accelerators and the figures that their makers publish: memory, arithmetic rate, bandwidth."""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """The published figures of one device, counted as JAX counts devices.

    Attributes:
        name: the name under which it is sold.
        memory_bytes: size of its high-bandwidth memory.
        flops_per_second: dense bfloat16 operations per second.
        bytes_per_second: bandwidth of that memory, reads and writes together.
    """

    name: str
    memory_bytes: float
    flops_per_second: float
    bytes_per_second: float


CHIPS: dict[str, Chip] = {
    # From Google Cloud's page of each TPU. A v4 or v5p chip is one device with two cores.
    "TPU v4": Chip("TPU v4", 32 * GIB, 275e12, 1228e9),
    "TPU v5 lite": Chip("TPU v5e", 16 * GIB, 197e12, 819e9),
    "TPU v5": Chip("TPU v5p", 95 * GIB, 459e12, 2765e9),
    "TPU v6 lite": Chip("TPU v6e", 32 * GIB, 918e12, 1640e9),
    # From NVIDIA's data sheets: the rates without sparsity.
    "NVIDIA A100-SXM4-40GB": Chip("A100 40 GB", 40e9, 312e12, 1555e9),
    "NVIDIA A100-SXM4-80GB": Chip("A100 80 GB", 80e9, 312e12, 2039e9),
    "NVIDIA H100 80GB HBM3": Chip("H100", 80e9, 989e12, 3350e9),
    "NVIDIA H200": Chip("H200", 141e9, 989e12, 4800e9),
}
"""The chips by `device_kind`, the name that JAX gives a device."""
