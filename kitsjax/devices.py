"""The machine that a process runs on: its compilation cache and the other processes of a run."""

from pathlib import Path

import jax
from jax.experimental import multihost_utils

from kitsjax.config import RunSettings


def start_devices(settings: RunSettings) -> None:
    """Join the run's other processes, if any, and keep compiled programs between starts.

    Must come before anything else asks JAX for a device.
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


def meet(name: str) -> None:
    """Wait until every process of the run has come to the point of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
