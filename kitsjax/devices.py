"""Start JAX on this machine and join the other processes of a run."""

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from kitsjax.errors import InputError, first_line
from kitsjax.settings import RunSettings
from kitsjax.signals import end_at_once_on_signals

_CPU_SECONDS = 900
"""Longest wait for another host within a program on CPUs."""


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
        # JAX waits for the others for minutes, and holds up handlers of signals meanwhile.
        with end_at_once_on_signals("stopped while joining the run's other processes"):
            _join_processes(settings)
            _find_device()
    else:
        _find_device()
    if keep_memory and sys.platform == "linux" and jax.default_backend() == "cpu":
        _keep_freed_memory()


def connect_devices() -> None:
    """Connect the devices of all processes by a first small program that all of them run.

    The processes call it together. gloo connects those on CPUs within 30 s, while one may compile
    a train step for minutes longer than another.
    """
    if jax.process_count() > 1:
        total = jax.pmap(lambda one: jax.lax.psum(one, "device"), axis_name="device")
        jax.block_until_ready(total(np.ones(jax.local_device_count(), np.int32)))


def _join_processes(settings: RunSettings) -> None:
    # JAX's own handler of SIGTERM would take the place of this program's.
    jax.config.update("jax_enable_preemption_service", False)
    devices = choose_local_devices(os.environ)
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        # By default a host that compiles half a minute longer than the others ends the run.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_collective_timeout_seconds={_CPU_SECONDS}"
    try:
        if settings.coordinator == "auto":
            jax.distributed.initialize(local_device_ids=devices)
        else:
            jax.distributed.initialize(
                settings.coordinator, settings.processes, settings.process, devices,
                cluster_detection_method="deactivate",
            )  # fmt: skip
    # The type of JAX's exception depends on what is wrong and on JAX's version.
    except (ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"run.coordinator = {settings.coordinator!r}: cannot join the run's processes "
            f"({first_line(error)}); give the first process's host:port, or auto on a cluster "
            "that JAX knows"
        ) from error


def choose_local_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Choose the GPUs of this process under SLURM, which may start several on a machine.

    JAX itself gives every process under SLURM the one GPU of its local number, though it may be
    alone on its machine.

    Args:
        environment: the variables that srun sets.

    Returns:
        The numbers of the GPUs among those that the process sees; []: all of them; None: JAX's
        choice, where SLURM did not start the process.
    """
    local = environment.get("SLURM_LOCALID", "")
    if not local.isdecimal() or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    tasks = _count_local_tasks(environment)
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    # srun --gpus-per-task and --gpu-bind show each process its own GPUs only.
    count, own = len(visible.split(",")) if visible else 0, _count_task_gpus(environment)
    bound = count and (count < (tasks or 1) or count == own)
    if tasks == 1 or bound:
        return []
    # With --gpu-bind=none a process sees those of the other tasks, too.
    own = own if own and tasks and count == tasks * own else 1
    return list(range(int(local) * own, (int(local) + 1) * own))


def _count_task_gpus(environment: Mapping[str, str]) -> int:
    """Count the GPUs of a task by --gpus-per-task, as in "4", "a100:4" or "a100:1,h100:2"; or 0."""
    asked = environment.get("SLURM_GPUS_PER_TASK", "")
    return sum(int(count) for count in re.findall(r"(?:^|:)(\d+)(?=,|$)", asked))


def _count_local_tasks(environment: Mapping[str, str]) -> int | None:
    """Count the tasks of this step on this machine; None if SLURM does not tell.

    SLURM lists them by machine, as in "4(x2),3": four on each of two, three on the third.
    """
    counts: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found:
            counts += [int(found[1])] * int(found[2] or 1)
    node = environment.get("SLURM_NODEID", "0")
    if node.isdecimal() and int(node) < len(counts):
        return counts[int(node)]
    nodes, tasks = (environment.get(f"SLURM_{k}", "") for k in ("STEP_NUM_NODES", "NTASKS"))
    return 1 if nodes and nodes == tasks else None


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
