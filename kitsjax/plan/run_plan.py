"""What a run is about to do, said before it does it."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kitsjax.plan.chips import GIB
from kitsjax.settings import Settings


def count_parameters(params: Any) -> int:
    """Number of scalars in a pytree of arrays or shapes."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))


def describe_plan(
    settings: Settings, params: Any, compiled: Any, folder: Path, cases: tuple[int, int], done: int
) -> str:
    """A few lines: devices, data, network, cost of a step by XLA's own analysis, outputs.

    Args:
        params: parameters of one device.
        compiled: the compiled train step; None where several processes share it.
        cases: number of training and of held-out cases.
        done: steps that a resumed run has behind it.
    """
    train, sampling = settings.train, settings.sampling
    steps = train.epochs * train.batches
    device = jax.devices()[0]
    z, y, x = sampling.patch_shape
    rows = {
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform}) "
        f"in {jax.process_count()} process(es)",
        "cases": f"{cases[0]} to train on, {cases[1]} held out",
        "network": f"{count_parameters(params):,} parameters, {settings.network.deep_supervision} heads",
        "batch": f"{sampling.batch_size} patches of {z} x {y} x {x} voxels at "
        f"{settings.preprocess.spacing_mm:g} mm",
        "step": _describe_cost(compiled, train.accumulation_steps),
        "steps": f"{train.epochs} epochs x {train.batches} = {steps:,}"
        + (f", going on after step {done:,}" if done else ""),
        "outputs": str(folder),
    }
    return "\n".join(f"{name:>8}  {text}" for name, text in rows.items())


def count_work(compiled: Any, times: int = 1, outside_bytes: float = 0) -> tuple[float, float]:
    """Operations and bytes moved by one execution, by XLA's analysis; nan where it has none.

    Args:
        times: that the program's loop runs, whose body XLA counts once.
        outside_bytes: moved outside of the loop, once.
    """
    costs = compiled.cost_analysis() or {}
    flops, moved = costs.get("flops", math.nan), costs.get("bytes accessed", math.nan)
    outside = min(moved, outside_bytes)
    return times * flops, outside + times * (moved - outside)


def _describe_cost(compiled: Any, times: int) -> str:
    if compiled is None:
        return "not analyzed where several processes share it"
    flops, moved = count_work(compiled, times)
    memory = compiled.memory_analysis()
    text = f"{flops / 1e9:,.1f} GFLOP and {moved / GIB:,.2f} GiB moved a device"
    if memory is not None:
        text += f", {memory.temp_size_in_bytes / GIB:.2f} GiB temporary memory"
    return f"{text} (XLA's analysis)"
