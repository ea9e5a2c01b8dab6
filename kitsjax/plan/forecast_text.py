"""A forecast in words: what `bin/train.py --plan` prints."""

from kitsjax.plan.chips import GIB, Chip
from kitsjax.plan.forecast import CT_SHAPE, Cost, Forecast
from kitsjax.settings import Settings


def describe_forecast(found: Forecast, settings: Settings) -> str:
    """What `bin/train.py --plan` prints."""
    chip, train = found.chip, settings.train
    share = settings.sampling.batch_size // found.devices
    patch = " x ".join(map(str, settings.sampling.patch_shape))
    rows = [("device", _describe_device(found))]
    rows.append(
        ("network", f"{found.parameters:,} parameters, {settings.network.deep_supervision} head(s)")
    )
    rows.append(("batch", f"{settings.sampling.batch_size} patches of {patch}, {share} a device"))
    rows.append(("train", _describe_memory(found, found.train)))
    if not found.train.refused:
        rows.append(("", _describe_work(found.train, chip, "a step")))
    steps = train.epochs * train.batches
    if chip and not found.train.refused:
        floor = found.train.roofline_seconds(chip)
        # A validation step is the forward third of a train step.
        whole = floor * (steps + train.epochs * train.validation_batches / 3)
        rows.append(("", f"{steps:,} steps and the validation: {_seconds(whole)} at best"))
    rows.append(("predict", _describe_memory(found, found.predict)))
    if not found.predict.refused:
        rows.append(("", _describe_work(found.predict, chip, f"{found.windows} window(s)")))
    if chip and not found.predict.refused:
        whole = found.rounds * found.predict.roofline_seconds(chip)
        size = " x ".join(map(str, CT_SHAPE))
        edge_cm = CT_SHAPE[0] * settings.preprocess.spacing_mm / 10
        rows.append(("", f"a CT of {size} ({edge_cm:.0f} cm): {_seconds(whole)} at best"))
    rows += [("change", advice) for advice in _advise(found, settings)]
    if (
        found.kind.startswith("TPU")
        and share > train.accumulation_steps
        and not settings.loss.dice_per_batch
    ):
        # Planes of several patches are copied together first (benchmarks/README.md).
        rows.append(
            ("faster", f"--set train.accumulation_steps={share}: the same, a patch at a time")
        )
    return "\n".join(f"{name:>8}  {text}" for name, text in rows)


def _describe_device(found: Forecast) -> str:
    text = f"{found.devices} x {found.chip.name if found.chip else found.kind}"
    if found.chip is None:
        return f"{text}, whose rates are not in kitsjax/train/chips.py"
    return (
        f"{text}: {found.memory_bytes / GIB:.0f} GiB, {found.chip.flops / 1e12:.0f} TFLOP/s "
        f"(bfloat16) and {found.chip.bandwidth / 1e9:.0f} GB/s each"
    )


def _describe_memory(found: Forecast, cost: Cost) -> str:
    verdict = "fits" if found.holds(cost) else "DOES NOT FIT"
    if not cost.parts:
        return f"{verdict}: {cost.refused}"
    # What is next to nothing would only be read.
    shown = {name: size for name, size in cost.parts.items() if size > 1e-4 * cost.total_bytes}
    parts = ", ".join(f"{name} {_size(size)}" for name, size in shown.items())
    return f"{verdict}: {_size(cost.total_bytes)} of {_size(found.memory_bytes)} a device ({parts})"


def _describe_work(cost: Cost, chip: Chip | None, unit: str) -> str:
    text = f"{cost.flops / 1e12:.3g} TFLOP and {cost.moved_bytes / GIB:.3g} GiB moved, {unit}"
    if chip is None:
        return text
    bound = "bytes" if cost.moved_bytes / chip.bandwidth > cost.flops / chip.flops else "arithmetic"
    return f"{text}: {_seconds(cost.roofline_seconds(chip))} at best, bound by {bound}"


def _advise(found: Forecast, settings: Settings) -> list[str]:
    """What to change, the least harm first; nothing if all fits."""
    advice = []
    if not found.holds(found.train):
        batch, accumulation_steps = settings.sampling.batch_size, settings.train.accumulation_steps
        share = batch // found.devices
        finer = [n for n in range(accumulation_steps + 1, share + 1) if share % n == 0]
        if not settings.network.remat:
            advice.append("--set network.remat=true: the same numbers, a third more arithmetic")
        if finer:
            advice.append(
                f"--set train.accumulation_steps={finer[0]}: {share // finer[0]} at a time"
            )
        if found.chip and batch % (2 * found.devices) == 0:
            advice.append(f"{2 * found.devices} such devices: {share // 2} of the batch each")
        if settings.network.max_features > 320:
            advice.append("--set network.max_features=320: nnU-Net's cap on the channels")
        advice.append("a device with more memory")
    if not found.holds(found.predict) and found.windows > 1:
        advice.append("--set predict.batch_size=1: one window at a time")
    return advice


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{seconds * 1000:.3g} ms"


def _size(size: float) -> str:
    text = f"{size / GIB:,.0f} GiB" if size >= 1000 * GIB else f"{size / GIB:.3g} GiB"
    return text if size >= GIB else f"{size / 2**20:.3g} MiB"
