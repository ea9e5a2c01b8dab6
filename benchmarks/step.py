"""The train step on dummy data: that of bin/train.py against that of nnU-Net's trainer."""

import os
import shutil
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import nnunet
from benchmarks.definition import AS_COMMANDS, Benchmark, Contender, Job, Measurement, Size
from benchmarks.dummy_data import make_batch, make_patches
from benchmarks.measure import PeakMemory, time_calls
from benchmarks.nnunet_plans import FEATURES, make_plans
from benchmarks.rates import measure_rates
from kitsjax.plan.operations import count_step_operations
from kitsjax.settings import (
    AugmentSettings,
    NetworkSettings,
    OptimizerSettings,
    RunSettings,
    SamplingSettings,
    Settings,
)
from kitsjax.types import Shape

_KEPT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    **AS_COMMANDS,
}
"""With these variables glibc reuses what PyTorch's CPU backend frees, on huge pages."""

MAX_NORM = 12.0
"""Both clip the gradient's norm to this. nnU-Net tells only the norm after clipping."""


class _Plan(NamedTuple):
    """A size of the benchmark; `smallest` gives every patch the six stages of 128 cubed."""

    patch_shape: Shape
    batch_size: int
    smallest: int
    steps: int
    repeats: int


# On an accelerator a repetition has several steps, since training does not wait for each of them.
_PLANS: dict[Size, _Plan] = {
    "small": _Plan((64, 64, 64), 2, smallest=2, steps=1, repeats=2),
    "full": _Plan((128, 128, 128), 4, smallest=4, steps=10, repeats=5),
}

# The first repetition compiles; the second fills caches and allocators.
_WARM_UP = 2


def step_settings(job: Job) -> Settings:
    """Make settings with nnU-Net's network, optimizer and batch, without augmentation."""
    plan = _PLANS[job.size]
    devices = max(n for n in range(1, job.threads + 1) if plan.batch_size % n == 0)
    return Settings(
        sampling=SamplingSettings(patch_shape=plan.patch_shape, batch_size=plan.batch_size),
        augment=AugmentSettings(mirror=0, rotate=0, scale=0, brightness=0, contrast=0, gamma=0),
        network=NetworkSettings(
            max_features=max(FEATURES), deep_supervision=5, smallest=plan.smallest
        ),
        optimizer=OptimizerSettings(learning_rate=0.01, clip_norm=MAX_NORM),
        run=RunSettings(compilation_cache=str(job.folder / "xla"), cpu_devices=devices),
    )


def _run_kitsjax(job: Job) -> Measurement:
    import jax

    from kitsjax.devices import start_devices
    from kitsjax.train.program import build_program, first_state
    from kitsjax.train.replication import replicate, shard

    settings, plan = step_settings(job), _PLANS[job.size]
    start_devices(settings.run, keep_memory=True)
    program = build_program(settings)
    state = first_state(settings, program)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    state = replicate(state)
    arrays = make_batch(plan.patch_shape, plan.batch_size, settings.preprocess.dtype)
    batch = jax.pmap(lambda leaf: leaf)(shard(arrays, jax.local_device_count()))
    metrics: list[dict[str, jax.Array]] = []

    def work() -> None:
        nonlocal state
        for _ in range(plan.steps):
            state, found = program.train_step(state, batch)
            metrics.append(found)
        jax.block_until_ready((state, found))

    with PeakMemory() as peak:
        seconds = time_calls(work, plan.repeats, _WARM_UP)
    memory = jax.local_devices()[0].memory_stats() or {}
    return Measurement(
        seconds,
        units=plan.steps,
        peak_bytes=peak.bytes,
        device_bytes=memory.get("peak_bytes_in_use"),
        values={
            "parameters": parameters,
            "first loss": float(metrics[0]["loss"][0]),
            "last loss": float(metrics[-1]["loss"][0]),
            "last gradient norm": min(MAX_NORM, float(metrics[-1]["grad_norm"][0])),
            "computed in": str(program.network.dtype),
            **_roofline(settings, statistics.median(seconds) / plan.steps),
        },
    )


def _roofline(settings: Settings, step_seconds: float) -> dict[str, float]:
    """Compare a step with the bound that its operations set on this machine."""
    rates, flops = measure_rates(), count_step_operations(settings, settings.sampling.batch_size)
    bound = flops / rates.flops
    return {
        "TFLOP a step": flops / 1e12,
        "measured TFLOP/s of a matrix product": rates.flops / 1e12,
        "measured GB/s of a copy": rates.bandwidth / 1e9,
        "roofline bound by arithmetic, s": bound,
        "share of the roofline bound reached": bound / step_seconds,
    }


def _run_nnunet(job: Job) -> Measurement:
    nnunet.use_folders(job.folder / "nnunet")
    import torch

    plan, cuda = _PLANS[job.size], torch.cuda.is_available()
    plans = make_plans(1.99, plan.patch_shape, plan.batch_size)
    trainer = nnunet.build_trainer(plans, "cuda" if cuda else "cpu", compiled=_can_compile())
    trainer.network.train()
    batch = nnunet.make_batch(trainer, *make_patches(plan.patch_shape, plan.batch_size))
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


def _can_compile() -> bool:
    """Tell whether there is a C++ compiler, which torch.compile needs on a CPU."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++")))


def _choose_format(trainer: Any, batch: dict[str, Any], work: Callable[[], None]) -> str:
    """Put network and batch into the memory format in which `work` is fastest; return its name.

    On a GPU both are tried. On a CPU channels last is the faster one (benchmarks/README.md).
    """
    import torch

    formats = {"channels last": torch.channels_last_3d, "contiguous": torch.contiguous_format}

    def use(name: str) -> None:
        trainer.network.to(memory_format=formats[name])
        batch["data"] = batch["data"].to(memory_format=formats[name])
        # The momentum still has the layout that the parameters had before.
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
    """Compare the logits of both networks with the same parameters."""
    nnunet.use_folders(job.folder / "nnunet")
    import jax
    import torch

    from kitsjax.model.unet import build_network

    plan = _PLANS["small"]
    settings = step_settings(Job(job.folder, "small", "", 1))
    trainer = nnunet.build_trainer(make_plans(1.99, plan.patch_shape, 1), "cpu")
    image, _ = make_patches(plan.patch_shape, 1)
    with torch.no_grad():
        theirs = trainer.network(torch.from_numpy(image)[:, None])
    network = build_network(settings.network, plan.patch_shape).copy(dtype=np.float32)
    params = nnunet.convert_parameters(trainer.network)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(network.apply)({"params": params}, image[..., None])
    differences = [
        np.abs(np.moveaxis(b.numpy(), 1, -1) - np.asarray(a)).max()
        for a, b in zip(ours, theirs, strict=True)
    ]
    return {"largest difference of logits, same parameters": float(max(differences))}


BENCHMARK = Benchmark(
    "step",
    "train step on dummy data: 31.2 M parameters, five deep supervision outputs, Dice + CE, SGD; "
    "full: 4 patches of 128 cubed, small: 2 of 64 cubed",
    (
        Contender("kitsjax", _run_kitsjax, variables=AS_COMMANDS),
        Contender("nnU-Net", _run_nnunet, needs=("nnunetv2", "torch")),
        Contender(
            "nnU-Net, memory kept", _run_nnunet, needs=("nnunetv2", "torch"), variables=_KEPT
        ),
    ),
    goal={"cpu": 1.0, "gpu": 1.25},
    check=_check,
)
