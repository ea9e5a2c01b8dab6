"""The machine that a process runs on: its compilation cache and the other processes of a run."""

import ctypes
import sys
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from kitsjax.settings import RunSettings


def start_devices(settings: RunSettings, keep_memory: bool = False) -> None:
    """Join the run's other processes, if any, and keep compiled programs between starts.

    Must come before anything else asks JAX for a device.

    Args:
        keep_memory: on a CPU, keep what is freed for later, as training wants it, which needs the
            same again at every step.
    """
    if settings.compilation_cache:
        cache = Path(settings.compilation_cache).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if settings.cpu_devices > 1:
        jax.config.update("jax_num_cpu_devices", settings.cpu_devices)
    if settings.coordinator == "auto":
        jax.distributed.initialize()
    elif settings.coordinator:
        jax.distributed.initialize(settings.coordinator, settings.processes, settings.process)
    if keep_memory and sys.platform == "linux" and jax.default_backend() == "cpu":
        _keep_freed_memory()


def meet(name: str) -> None:
    """Wait until every process of the run has come to the point of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _keep_freed_memory() -> None:
    """Let glibc reuse what a step frees instead of returning it to the system.

    XLA's CPU backend allocates every large array anew, and a tenth to a quarter of a small step
    would go to page faults. Other C libraries lack the call and do without.
    """
    arena_max, mmap_max, trim_threshold = -8, -4, -1
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, 2**31 - 1)):
            mallopt(parameter, value)
