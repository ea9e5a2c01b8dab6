"""Devices that need not exist here, as targets for XLA's compilers: TPU slices and NVIDIA GPUs."""

import os
import re
from importlib.util import find_spec
from typing import Any

import jax

from kitsjax.errors import InputError, first_line
from kitsjax.plan.chips import CHIPS, Chip

GPUS = {
    "a100-40": "NVIDIA A100-SXM4-40GB",
    "a100-80": "NVIDIA A100-SXM4-80GB",
    "h100": "NVIDIA H100 80GB HBM3",
    "h200": "NVIDIA H200",
    "b200": "NVIDIA B200",
    "l40s": "NVIDIA L40S",
    "rtx4090": "NVIDIA GeForce RTX 4090",
}
"""Names of GPUs as targets, and their keys in `CHIPS`."""

_GPU = re.compile(rf"({'|'.join(GPUS)})(?:x([1-9]\d?))?")
_SLICE = re.compile(r"(v4|v5e|v5p|v6e):[1-9]\d*x[1-9]\d*(x[1-9]\d*)?")

_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""The environment variables that libtpu needs on a machine without a TPU."""


def target_devices(target: str) -> list[jax.Device]:
    """Describe devices to compile for and not to run on.

    Only the CPU can be used for running in this process afterwards.

    Args:
        target: generation and chips of a TPU slice ("v5e:2x2", "v6e:2x2", "v4:2x2x1" or
            "v5p:2x2x1"), or a GPU of `GPUS`, with the number of them on one machine if it is not 1
            ("h100x8").

    Raises:
        InputError: the target is unknown, or its compiler is not installed or does not know it.
    """
    if gpu := _GPU.fullmatch(target):
        return _describe(target, "cuda", **_gpu_options(CHIPS[GPUS[gpu[1]]], GPUS[gpu[1]], gpu[2]))
    if not _SLICE.fullmatch(target):
        raise InputError(
            f"--target {target or repr(target)}: unknown; give a GPU ({', '.join(GPUS)}; eight of "
            "them are h100x8) or the chips of a TPU slice, as in v5e:2x2, v6e:2x2, v4:2x2x1 or "
            "v5p:2x2x1"
        )
    os.environ.update(_TPU_ENVIRONMENT)
    # The two cores of a v4 chip are one device, as they are on a TPU machine.
    options = {"chip_config_name": "megacore"} if target.startswith("v4") else {}
    return _describe(target, "tpu", topology_name=target, **options)


def _describe(target: str, platform: str, **options: Any) -> list[jax.Device]:
    """Ask JAX for the devices of a topology."""
    package, install = {
        "tpu": ("libtpu", "'libtpu>=0.0.42'"),
        "cuda": ("jax_cuda13_plugin", f"'jax[cuda13]=={jax.__version__}'"),
    }[platform]
    if find_spec(package) is None:
        raise InputError(
            f"--target {target}: its compiler is not installed ({package}); run "
            f"python -m pip install {install}"
        )
    jax.config.update("jax_enable_x64", False)
    # JAX must not look for such a device here; compiling needs none.
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc(platform=platform, **options)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--target {target}: its compiler knows no such devices ({first_line(error)}); give "
            "another target"
        ) from error
    return list(topology.devices)


def _gpu_options(chip: Chip, kind: str, count: str | None) -> dict[str, str]:
    """Describe a number of equal GPUs of one machine in XLA's own text form."""
    gpu = chip.gpu
    assert gpu is not None
    optional_shared = gpu.shared_bytes - 1024  # CUDA keeps a KiB of each core for itself.
    config = f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {gpu.capability[0]} minor: {gpu.capability[1]} }}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.fpus}
  clock_rate_ghz: {gpu.clock_ghz}
  memory_bandwidth: {chip.bytes_per_second:.0f}
  device_memory_size: {chip.memory_bytes:.0f}
  l2_cache_size: {gpu.cache_bytes}
  shared_memory_per_core: {gpu.shared_bytes}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {optional_shared}
  threads_per_block_limit: 1024
  threads_per_core_limit: {gpu.threads}
  threads_per_warp: 32
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{kind}"
"""
    return {"topology_name": kind, "target_config": config, "topology": f"1x1x{count or 1}"}
