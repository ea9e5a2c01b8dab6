"""Texts about a run: the forecast that `--plan` prints, and the plan at the start of a run."""

import math
from pathlib import Path
from typing import Any

import jax

from kitsjax.plan.chips import GIB, Chip
from kitsjax.plan.cost import Cost, count_parameters, count_work
from kitsjax.plan.forecast import SHARE_VARIABLES, Forecast
from kitsjax.settings import Settings

Rows = list[tuple[str, str]]
"""Lines of text, each with the word before it or ""."""


def describe_run(
    settings: Settings, params: Any, compiled: Any, folder: Path, cases: tuple[int, int], done: int
) -> str:
    """Describe a run at its start: devices, data, network, cost of a train step, outputs.

    Args:
        settings: the run.
        params: the parameters on one device.
        compiled: the compiled train step; None where several processes share it.
        folder: the run folder.
        cases: number of training cases and of held-out cases.
        done: number of steps that a resumed run has already taken.
    """
    train, sampling = settings.train, settings.sampling
    device = jax.devices()[0]
    rows = {
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform}) "
        f"in {jax.process_count()} process(es)",
        "cases": f"{cases[0]} to train on, "
        + (f"{cases[1]} held out" if cases[1] else "none held out; validation uses these, too"),
        "network": _describe_network(count_parameters(params), settings),
        "batch": f"{sampling.batch_size} patches of {_join(sampling.patch_shape)} voxels at "
        f"{settings.preprocess.spacing_mm:g} mm",
        "step": _describe_step(compiled, train.accumulation_steps),
        "steps": f"{train.epochs} epochs x {train.batches} = {train.epochs * train.batches:,}"
        + (f", resumed after step {done:,}" if done else ""),
        "outputs": str(folder),
    }
    return _format(list(rows.items()))


def describe_plan(found: Forecast, settings: Settings) -> str:
    """Describe a forecast: what fits, the roofline bounds, and which settings to change."""
    sampling = settings.sampling
    share = sampling.batch_size // found.device_count
    patch = _join(sampling.patch_shape)
    rows = [
        ("device", _describe_device(found)),
        ("network", _describe_network(found.parameter_count, settings)),
        ("batch", f"{sampling.batch_size} patches of {patch}, {share} per device"),
        *_describe_training(found, settings),
        *_describe_prediction(found, settings),
        *_advise(found, settings),
    ]
    return _format(rows)


def _describe_network(parameter_count: int, settings: Settings) -> str:
    outputs = settings.network.deep_supervision
    return f"{parameter_count:,} parameters, {outputs} deep supervision output(s)"


def _describe_step(compiled: Any, iterations: int) -> str:
    if compiled is None:
        return "not analyzed, because several processes share it"
    flops, bytes_moved = count_work(compiled, jax.default_backend(), iterations)
    parts = []
    if not math.isnan(flops):
        parts.append(f"{flops / 1e9:,.1f} GFLOP and {bytes_moved / GIB:,.2f} GiB moved per device")
    memory = compiled.memory_analysis()
    if memory is not None:
        parts.append(f"{memory.temp_size_in_bytes / GIB:.2f} GiB temporary memory")
    return f"{', '.join(parts)} (XLA's analysis)"


def _describe_device(found: Forecast) -> str:
    chip = found.chip
    text = f"{found.device_count} x {chip.name if chip else found.device_kind}"
    if chip is None:
        return f"{text}; no speed is forecast, because kitsjax/plan/chips.py does not list it"
    return (
        f"{text}: {found.device_memory_bytes / GIB:.0f} GiB, "
        f"{chip.flops_per_second / 1e12:.0f} TFLOP/s (bfloat16) and "
        f"{chip.bytes_per_second / 1e9:.0f} GB/s each"
    )


def _describe_training(found: Forecast, settings: Settings) -> Rows:
    train, cost = settings.train, found.train
    rows = [("train", _describe_memory(found, cost))]
    if cost.refusal:
        return rows
    rows.append(("", f"a step: {_describe_work(cost, found.chip)}"))
    if found.chip:
        steps = train.epochs * train.batches
        # A validation step is a forward pass, which is a third of a train step.
        step_equivalents = steps + train.epochs * train.validation_batches / 3
        seconds = cost.roofline_seconds(found.chip) * step_equivalents
        rows.append(("", f"{steps:,} steps and the validation: at least {_format_time(seconds)}"))
    return rows


def _describe_prediction(found: Forecast, settings: Settings) -> Rows:
    cost = found.predict
    rows = [("predict", _describe_memory(found, cost))]
    if cost.refusal:
        return rows
    rows.append(("", f"{found.batch_windows} window(s): {_describe_work(cost, found.chip)}"))
    if found.chip:
        seconds = found.window_batches * cost.roofline_seconds(found.chip)
        edge_cm = found.ct_shape[0] * settings.preprocess.spacing_mm / 10
        ct = f"a CT of {_join(found.ct_shape)} ({edge_cm:.0f} cm)"
        rows.append(("", f"{ct}: at least {_format_time(seconds)}"))
    return rows


def _describe_memory(found: Forecast, cost: Cost) -> str:
    verdict = "fits" if found.holds(cost) else "DOES NOT FIT"
    if not cost.memory:
        return f"{verdict}: {cost.refusal}"
    total, available = cost.memory_bytes, found.device_memory_bytes
    # Parts too small to matter are left out.
    shown = {name: size for name, size in cost.memory.items() if size > 1e-4 * total}
    parts = ", ".join(f"{name} {_format_size(size)}" for name, size in shown.items())
    return f"{verdict}: {_format_size(total)} of {_format_size(available)} per device ({parts})"


def _describe_work(cost: Cost, chip: Chip | None) -> str:
    text = f"{cost.flops / 1e12:.3g} TFLOP"
    if not math.isnan(cost.bytes_moved):
        text += f" and {cost.bytes_moved / GIB:.3g} GiB moved"
    if chip is None:
        return text
    arithmetic_seconds = cost.flops / chip.flops_per_second
    memory_bound = cost.bytes_moved / chip.bytes_per_second > arithmetic_seconds
    limit = "bandwidth" if memory_bound else "arithmetic"
    seconds = _format_time(cost.roofline_seconds(chip))
    return f"{text}; at least {seconds} (roofline bound, limited by {limit})"


def _advise(found: Forecast, settings: Settings) -> Rows:
    """List what makes the run fit, the least intrusive first, or what makes it faster."""
    train = settings.train
    share = settings.sampling.batch_size // found.device_count
    rows = []
    if not found.holds(found.train):
        rows += [("change", text) for text in _ways_to_fit(found, settings, share)]
    if not found.holds(found.predict) and found.batch_windows > 1:
        rows.append(("change", "--set predict.batch_size=1: one window at a time"))
    several_at_a_time = share > train.accumulation_steps and not settings.loss.dice_per_batch
    if found.device_kind.startswith("TPU") and several_at_a_time:
        # With several patches a TPU first copies their planes together (benchmarks/README.md).
        text = f"--set train.accumulation_steps={share}: the same result, one patch at a time"
        rows.append(("faster", text))
    return rows


def _ways_to_fit(found: Forecast, settings: Settings, share: int) -> list[str]:
    """List the changes that make a train step of `share` patches per device smaller."""
    ways = []
    steps = settings.train.accumulation_steps
    finer = [n for n in range(steps + 1, share + 1) if share % n == 0]
    if not settings.network.remat:
        ways.append("--set network.remat=true: the same numbers, a third more arithmetic")
    if finer:
        at_a_time = f"{share // finer[0]} patch(es) at a time"
        ways.append(f"--set train.accumulation_steps={finer[0]}: {at_a_time}")
    if found.chip and settings.sampling.batch_size % (2 * found.device_count * steps) == 0:
        ways.append(f"{2 * found.device_count} such devices: {share // 2} patch(es) each")
    if settings.network.max_features > 320:
        ways.append("--set network.max_features=320: nnU-Net's cap on the channels")
    if found.chip and found.chip.gpu and found.device_memory_bytes < 0.9 * found.chip.memory_bytes:
        ways.append(f"{SHARE_VARIABLES[0]}=0.95 in the environment: more of the GPU's memory")
    ways.append("a device with more memory")
    return ways


def _format(rows: Rows) -> str:
    return "\n".join(f"{name:>8}  {text}" for name, text in rows)


def _join(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _format_time(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{seconds * 1000:.3g} ms"


def _format_size(size: float) -> str:
    text = f"{size / GIB:,.0f} GiB" if size >= 1000 * GIB else f"{size / GIB:.3g} GiB"
    return text if size >= GIB else f"{size / 2**20:.3g} MiB"
