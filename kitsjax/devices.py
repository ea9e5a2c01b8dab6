"""Start JAX on this machine and join the other processes of a run."""

import ctypes
import os
import sys
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from kitsjax.errors import InputError, first_line
from kitsjax.settings import RunSettings


def start_devices(settings: RunSettings, keep_memory: bool = False) -> None:
    """Configure JAX and join the run's other processes, if there are any.

    Call it before anything else asks JAX for a device.

    Args:
        settings: section [run] of the settings.
        keep_memory: on a CPU, keep freed memory for reuse instead of returning it to the system.
            Training wants this: every step allocates the same arrays again.

    Raises:
        InputError: the other processes cannot be joined, or JAX finds no device.
    """
    # A user's JAX_ENABLE_X64 would make constants float64, in steps that are float32 throughout.
    jax.config.update("jax_enable_x64", False)
    if settings.compilation_cache:
        cache = Path(settings.compilation_cache).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if settings.cpu_devices > 1:
        jax.config.update("jax_num_cpu_devices", settings.cpu_devices)
    if settings.coordinator:
        _join_processes(settings)
    _find_device()
    if keep_memory and sys.platform == "linux" and jax.default_backend() == "cpu":
        _keep_freed_memory()


def is_main() -> bool:
    """Tell whether this is the main process: the one that prints, and writes the run folder."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process of the run reaches this point.

    Args:
        name: the point's name, the same in all processes.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _join_processes(settings: RunSettings) -> None:
    try:
        if settings.coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(settings.coordinator, settings.processes, settings.process)
    # The type of JAX's exception depends on what is wrong and on JAX's version.
    except (ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"run.coordinator = {settings.coordinator!r}: cannot join the run's processes "
            f"({first_line(error)}); give the first process's host:port, or auto on a cluster "
            "that JAX knows"
        ) from error


def _find_device() -> None:
    """Initialize JAX's platform, and explain in one line why that fails."""
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX finds no device for JAX_PLATFORMS={asked!r} ({first_line(error)}); unset it, or "
            "install the JAX of that platform"
        ) from error


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory that a step frees instead of returning it to the system.

    XLA's CPU backend allocates every large array anew, and page faults would take a tenth to a
    quarter of a small step. Other C libraries lack `mallopt`; there nothing is changed.
    """
    # The numbers of M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD in glibc's malloc.h.
    arena_max, mmap_max, trim_threshold = -8, -4, -1
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, 2**31 - 1)):
            mallopt(parameter, value)
