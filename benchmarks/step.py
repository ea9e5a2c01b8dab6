"""The train step: nnU-Net's trainer's own against the program of bin/train.py, on dummy data."""

import os
import shutil
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import nnunet
from benchmarks.part import Job, Measurement, Part, PeakMemory, Side, Size, time_calls
from benchmarks.rates import measure_rates
from kitsjax.labels import CLASSES
from kitsjax.settings import (
    AugmentSettings,
    NetworkSettings,
    OptimizerSettings,
    RunSettings,
    SamplingSettings,
    Settings,
)
from kitsjax.types import Shape

NORM = 12.0
"""Both clip the gradient at it; nnU-Net tells the norm only after that."""


class _Plan(NamedTuple):
    """A size of the part; `smallest` lets every patch have the six stages of 128 cubed."""

    patch_shape: Shape
    batch_size: int
    smallest: int
    steps: int
    repeats: int


# On an accelerator a repetition is several steps, as nothing waits for the device in training.
_PLANS: dict[Size, _Plan] = {
    "small": _Plan((64, 64, 64), 2, smallest=2, steps=1, repeats=2),
    "full": _Plan((128, 128, 128), 4, smallest=4, steps=10, repeats=5),
}

_WARM_UP = 2
"""Repetitions: the first compiles, the second finds caches and allocators as all later ones do."""


def step_settings(job: Job) -> Settings:
    """nnU-Net's network, optimizer and batch in kitsjax's words, without augmentation."""
    plan = _PLANS[job.size]
    devices = max(n for n in range(1, job.threads + 1) if plan.batch_size % n == 0)
    return Settings(
        sampling=SamplingSettings(patch_shape=plan.patch_shape, batch_size=plan.batch_size),
        augment=AugmentSettings(mirror=0, rotate=0, scale=0, brightness=0, contrast=0, gamma=0),
        network=NetworkSettings(
            max_features=max(nnunet.FEATURES), deep_supervision=5, smallest=plan.smallest
        ),
        optimizer=OptimizerSettings(learning_rate=0.01, clip_norm=NORM),
        run=RunSettings(compilation_cache=str(job.folder / "xla"), cpu_devices=devices),
    )


def dummy_batch(patch_shape: Shape, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with the intensities of a normalized image, and random labels; (b, z, y, x) each."""
    rng, shape = np.random.default_rng(0), (batch_size, *patch_shape)
    image = rng.standard_normal(shape, np.float32)
    return image, rng.integers(0, len(CLASSES), shape, np.uint8)


def dummy_arrays(patch_shape: Shape, batch_size: int, dtype: str) -> dict[str, np.ndarray]:
    """`dummy_batch` as the program of bin/train.py takes it, before it is shared out.

    Args:
        dtype: of the stored image, `preprocess.dtype`.
    """
    image, label = dummy_batch(patch_shape, batch_size)
    index = np.arange(batch_size, dtype=np.int32)
    return {"image": image.astype(dtype), "label": label, "index": index}


def _run_kitsjax(job: Job) -> Measurement:
    import jax

    from kitsjax.devices import start_devices
    from kitsjax.train.program import build_program
    from kitsjax.train.sharding import replicate, shard
    from kitsjax.train.step import init_state

    settings, plan = step_settings(job), _PLANS[job.size]
    start_devices(settings.run, keep_memory=True)
    program = build_program(settings)
    state = init_state(program.network, program.optimizer, settings.train.seed)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    state = replicate(state)
    arrays = dummy_arrays(plan.patch_shape, plan.batch_size, settings.preprocess.dtype)
    batch = jax.pmap(lambda leaf: leaf)(shard(arrays, jax.local_device_count()))
    metrics: list[dict[str, jax.Array]] = []

    def work() -> None:
        nonlocal state
        for _ in range(plan.steps):
            state, told = program.train_step(state, batch)
            metrics.append(told)
        jax.block_until_ready((state, told))

    with PeakMemory() as peak:
        seconds = time_calls(work, plan.repeats, _WARM_UP)
    memory = jax.local_devices()[0].memory_stats() or {}
    rates, flops = measure_rates(), count_operations(settings)
    floor = flops / rates.flops
    return Measurement(
        seconds,
        units=plan.steps,
        peak_bytes=peak.bytes,
        device_bytes=memory.get("peak_bytes_in_use"),
        values={
            "parameters": parameters,
            "first loss": float(metrics[0]["loss"][0]),
            "last loss": float(metrics[-1]["loss"][0]),
            "last gradient norm": min(NORM, float(metrics[-1]["grad_norm"][0])),
            "computed in": str(program.network.dtype),
            "TFLOP a step": flops / 1e12,
            "measured TFLOP/s of a matrix product": rates.flops / 1e12,
            "measured GB/s of a copy": rates.bandwidth / 1e9,
            "floor by arithmetic, s": floor,
            "share of the floor reached": floor / (statistics.median(seconds) / plan.steps),
        },
    )


def count_operations(settings: Settings) -> float:
    """Operations of a step on the whole batch, in XLA's count of its plain implementation, uncompiled.

    Other forms of the convolution save some, or hide some in loops.
    """
    import jax

    from kitsjax.train.program import build_program, lower_train_step
    from kitsjax.train.step import init_state

    network = settings.network.model_copy(update={"convolution": "direct"})
    plain, one = settings.model_copy(update={"network": network}), jax.local_devices()[:1]
    program = build_program(plain, one)
    state = jax.eval_shape(lambda: init_state(program.network, program.optimizer, 0))
    return float(lower_train_step(plain, program, state, one).cost_analysis()["flops"])


def _run_nnunet(job: Job) -> Measurement:
    nnunet.use_folders(job.folder / "nnunet")
    import torch

    plan, cuda = _PLANS[job.size], torch.cuda.is_available()
    trainer = nnunet.build_trainer(
        nnunet.plans(1.99, plan.patch_shape, plan.batch_size), nnunet.dataset_json(), "all",
        "cuda" if cuda else "cpu", compiled=_can_compile(),
    )  # fmt: skip
    trainer.network.train()
    batch = nnunet_batch(trainer, *dummy_batch(plan.patch_shape, plan.batch_size))
    losses: list[float] = []

    def work() -> None:
        losses.extend(float(trainer.train_step(batch)["loss"]) for _ in range(plan.steps))
        if cuda:
            torch.cuda.synchronize()

    with PeakMemory() as peak:
        memory_format = _choose_format(trainer, batch, work)
        seconds = time_calls(work, plan.repeats, _WARM_UP)
    gradients = [p.grad for p in trainer.network.parameters() if p.grad is not None]
    return Measurement(
        seconds,
        units=plan.steps,
        peak_bytes=peak.bytes,
        device_bytes=torch.cuda.max_memory_allocated() if cuda else None,
        values={
            "parameters": sum(p.numel() for p in trainer.network.parameters()),
            "first loss": losses[0],
            "last loss": losses[-1],
            "last gradient norm": float(torch.nn.utils.get_total_norm(gradients)),
            "computed in": "float16 (AMP)" if cuda else "float32",
            "compiled": str(isinstance(trainer.network, torch._dynamo.OptimizedModule)),
            "memory format": memory_format,
        },
    )


def nnunet_batch(trainer: Any, image: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """The same patches as nnU-Net's data loader hands them over, with a target for each head."""
    import torch
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
        DownsampleSegForDSTransform,
    )

    downsample = DownsampleSegForDSTransform(trainer._get_deep_supervision_scales())
    # Samples stand where it expects channels, which it treats alike.
    targets = downsample(segmentation=torch.from_numpy(label.astype(np.int16)))["segmentation"]
    return {
        "data": torch.from_numpy(image)[:, None].to(trainer.device),
        "target": [target[:, None].to(trainer.device) for target in targets],
    }


def _can_compile() -> bool:
    """Whether torch.compile finds what it needs on a CPU: a C++ compiler."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++")))


def _choose_format(trainer: Any, batch: dict[str, Any], work: Callable[[], None]) -> str:
    """Put network and batch into the memory format in which `work` is fastest; its name.

    A GPU tries both. On two CPU cores, of an AMD EPYC, a step of the small size took 16.0 CPU
    seconds as nnU-Net runs it, 15.5 with channels last, 13.3 compiled and 12.0 with both.
    """
    import torch

    formats = {"channels last": torch.channels_last_3d, "contiguous": torch.contiguous_format}

    def use(name: str) -> None:
        trainer.network.to(memory_format=formats[name])
        batch["data"] = batch["data"].to(memory_format=formats[name])
        # Momentum laid out as the parameters were before.
        trainer.optimizer.state.clear()

    fastest = "channels last"
    if trainer.device.type == "cuda":
        seconds = {}
        for name in formats:
            use(name)
            seconds[name] = time_calls(work, repeats=1)[0]
        fastest = min(seconds, key=lambda name: seconds[name])
        torch.cuda.reset_peak_memory_stats()
    use(fastest)
    return fastest


def _check(job: Job) -> dict[str, float]:
    """Whether both networks are the same function: from the same parameters, the same logits."""
    nnunet.use_folders(job.folder / "nnunet")
    import jax
    import torch

    from kitsjax.model.unet import build_network

    plan = _PLANS["small"]
    settings = step_settings(Job(job.folder, "small", "", 1))
    plans = nnunet.plans(1.99, plan.patch_shape, 1)
    trainer = nnunet.build_trainer(plans, nnunet.dataset_json(), "all", "cpu")
    image = dummy_batch(plan.patch_shape, 1)[0]
    with torch.no_grad():
        theirs = trainer.network(torch.from_numpy(image)[:, None])
    network = build_network(settings.network, plan.patch_shape).copy(dtype=np.float32)
    params = nnunet.parameters_for_kitsjax(trainer.network)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(network.apply)({"params": params}, image[..., None])
    differences = [
        np.abs(np.moveaxis(b.numpy(), 1, -1) - np.asarray(a)).max()
        for a, b in zip(ours, theirs, strict=True)
    ]
    return {"largest difference of logits, same parameters": float(max(differences))}


PART = Part(
    "step",
    "train step on dummy data: 31.2 M parameters, five heads, Dice + CE, SGD; "
    "full: 4 patches of 128 cubed, small: 2 of 64 cubed",
    (
        Side("kitsjax", _run_kitsjax),
        Side("nnU-Net", _run_nnunet, needs=("nnunetv2", "torch")),
    ),
    goal={"cpu": 1.0, "gpu": 1.25},
    check=_check,
)
