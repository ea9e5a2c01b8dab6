"""Accelerators and the figures that their makers publish: memory, arithmetic rate, bandwidth."""

from typing import NamedTuple

GIB = 2**30


class GpuBuild(NamedTuple):
    """What XLA must know of an NVIDIA GPU to compile for it, beside the figures of `Chip`.

    Attributes:
        capability: compute capability (major, minor).
        cores: number of streaming multiprocessors.
        fpus: float32 lanes of each.
        threads: most threads on each.
        shared_bytes: shared memory of each.
        cache_bytes: size of the L2 cache.
        clock_ghz: boost clock, GHz.
    """

    capability: tuple[int, int]
    cores: int
    fpus: int
    threads: int
    shared_bytes: int
    cache_bytes: int
    clock_ghz: float


class Chip(NamedTuple):
    """The published figures of one device, counted as JAX counts devices.

    Attributes:
        name: the name under which it is sold.
        memory_bytes: size of its memory.
        flops_per_second: dense bfloat16 operations per second.
        bytes_per_second: bandwidth of that memory, reads and writes together.
        gpu: what a compiler needs of an NVIDIA GPU; None for a TPU.
    """

    name: str
    memory_bytes: float
    flops_per_second: float
    bytes_per_second: float
    gpu: GpuBuild | None = None


_AMPERE = GpuBuild((8, 0), 108, 64, 2048, 167_936, 40 * 2**20, 1.41)
_HOPPER = GpuBuild((9, 0), 132, 128, 2048, 233_472, 50 * 2**20, 1.98)
_BLACKWELL = GpuBuild((10, 0), 148, 128, 2048, 233_472, 132_644_864, 1.965)
_L40S = GpuBuild((8, 9), 142, 128, 1536, 102_400, 96 * 2**20, 2.52)
_RTX_4090 = GpuBuild((8, 9), 128, 128, 1536, 102_400, 72 * 2**20, 2.52)

CHIPS: dict[str, Chip] = {
    # From Google Cloud's page of each TPU. A v4 or v5p chip is one device with two cores.
    "TPU v4": Chip("TPU v4", 32 * GIB, 275e12, 1228e9),
    "TPU v5 lite": Chip("TPU v5e", 16 * GIB, 197e12, 819e9),
    "TPU v5": Chip("TPU v5p", 95 * GIB, 459e12, 2765e9),
    "TPU v6 lite": Chip("TPU v6e", 32 * GIB, 918e12, 1640e9),
    # From NVIDIA's data sheets: the rates without sparsity; of the RTX 4090 from the white paper
    # of its architecture, with float32 sums. What compilers need is from CUDA's programming guide
    # (limits by compute capability) and from the devices' own reports, as OpenXLA collects them.
    "NVIDIA A100-SXM4-40GB": Chip("A100 40 GB", 40e9, 312e12, 1555e9, _AMPERE),
    "NVIDIA A100-SXM4-80GB": Chip("A100 80 GB", 80e9, 312e12, 2039e9, _AMPERE),
    "NVIDIA H100 80GB HBM3": Chip("H100", 80e9, 989e12, 3350e9, _HOPPER),
    "NVIDIA H200": Chip("H200", 141e9, 989e12, 4800e9, _HOPPER),
    "NVIDIA B200": Chip("B200", 180e9, 2250e12, 7700e9, _BLACKWELL),
    "NVIDIA L40S": Chip("L40S", 48e9, 362e12, 864e9, _L40S),
    "NVIDIA GeForce RTX 4090": Chip("RTX 4090", 24e9, 165e12, 1008e9, _RTX_4090),
}
"""The chips by `device_kind`, the name that JAX gives a device."""
