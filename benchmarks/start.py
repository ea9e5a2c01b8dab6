"""The start of training: from the command to the end of the first step, with compilation.

`python -m benchmarks.start CONTENDER FOLDER` is such a start.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import nnunet
from benchmarks.definition import Benchmark, Contender, Job, Measurement, Size
from benchmarks.dummy_data import make_batch, make_patches
from benchmarks.nnunet_plans import CONFIGURATION, make_plans
from benchmarks.run_process import environment

COLD, CACHED = "cold", "cached"

COMPILED = ("xla", "torchinductor_cache_dir", "triton_cache_dir")
"""These folders of a contender's cache hold compiled code. The others, such as the one with
matplotlib's list of fonts, any user already has."""

_OVERRIDES: dict[Size, tuple[str, ...]] = {
    # Those of configs/phantom.toml and configs/kits21.toml.
    "small": (
        "sampling.patch_shape=[48, 48, 48]", "sampling.batch_size=2", "preprocess.spacing_mm=4.0",
        "network.features=8", "network.max_features=64", "network.deep_supervision=3",
        "loss.dice_per_batch=true",
    ),
    "full": ("network.max_features=320",),
}  # fmt: skip


def _prepare(job: Job) -> None:
    """Write the settings file, with the compilation cache, and equivalent plans for nnU-Net."""
    from kitsjax.config import load_settings, to_toml
    from kitsjax.model.unet import stage_features

    own: tuple[str, ...] = (
        f"run.compilation_cache={json.dumps(str(job.folder / 'kitsjax/cache/xla'))}",
    )
    if job.size == "small":
        own += (f"run.cpu_devices={min(2, job.threads)}",)
    settings = load_settings(overrides=_OVERRIDES[job.size] + own)
    (job.folder / "settings.toml").write_text(to_toml(settings))
    sampling, network = settings.sampling, settings.network
    features = stage_features(
        sampling.patch_shape, network.features, network.max_features, network.smallest
    )
    plans = make_plans(
        settings.preprocess.spacing_mm, sampling.patch_shape, sampling.batch_size, features
    )
    (job.folder / "plans.json").write_text(json.dumps(plans))


def _run(contender: str, job: Job) -> Measurement:
    """Start once, with or without the compiled code that an earlier start left."""
    cache = job.folder / contender / "cache"
    if not cache.exists():
        # Otherwise the first start alone would pay for reading Python packages from the disk.
        start(contender, job.folder)
    if job.variant == COLD:
        for name in COMPILED:
            shutil.rmtree(cache / name, ignore_errors=True)
    reached = start(contender, job.folder)
    *_, seconds = reached.values()
    return Measurement([seconds], values={f"{name}, s": value for name, value in reached.items()})


def start(contender: str, folder: Path) -> dict[str, float]:
    """Start a process that takes one step; return the seconds until it reached each point."""
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.start", contender, str(folder)]
    started = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    moments: dict[str, float] = json.loads(started.stdout.splitlines()[-1])
    return {name: moment - began for name, moment in moments.items()}


def _start_kitsjax(folder: Path) -> dict[str, float]:
    import kitsjax.command
    from kitsjax.huge_pages import start_again

    # As bin/train.py does; this is where the process comes to twice.
    assert kitsjax.command is not None
    start_again()
    import jax

    from kitsjax.config import load_settings
    from kitsjax.devices import start_devices
    from kitsjax.train.augment import oversized_shape
    from kitsjax.train.program import build_program, first_state
    from kitsjax.train.replication import replicate, shard

    moments = {"imported": time.time()}
    settings = load_settings(folder / "settings.toml")
    start_devices(settings.run, keep_memory=True)
    sampling = settings.sampling
    oversized = oversized_shape(sampling.patch_shape, settings.augment)
    batch = make_batch(oversized, sampling.batch_size, settings.preprocess.dtype)
    program = build_program(settings)
    state = first_state(settings, program)
    state = jax.block_until_ready(replicate(state))
    moments["initialized"] = time.time()
    jax.block_until_ready(program.train_step(state, shard(batch, jax.local_device_count())))
    return {**moments, "first step": time.time()}


def _start_nnunet(folder: Path) -> dict[str, float]:
    nnunet.use_folders(folder / "nnU-Net")
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    moments = {"imported": time.time()}
    # The import above is there to be timed.
    assert nnUNetTrainer is not None
    plans = json.loads((folder / "plans.json").read_text())
    configuration = plans["configurations"][CONFIGURATION]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = nnunet.build_trainer(plans, device)
    trainer.network.train()
    z, y, x = configuration["patch_size"]
    batch = nnunet.make_batch(trainer, *make_patches((z, y, x), configuration["batch_size"]))
    moments["initialized"] = time.time()
    # It returns the loss as a NumPy number, so it waits for the step.
    trainer.train_step(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return {**moments, "first step": time.time()}


_STARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "kitsjax": _start_kitsjax,
    "nnU-Net": _start_nnunet,
}


BENCHMARK = Benchmark(
    name="start",
    work="from the command to the end of the first train step on a dummy batch, a new process; "
    "full: configs/kits21.toml's network and batch, small: configs/phantom.toml's",
    contenders=(
        Contender("kitsjax", partial(_run, "kitsjax")),
        Contender("nnU-Net", partial(_run, "nnU-Net"), ("torch", "nnunetv2")),
    ),
    variants=(COLD, CACHED),
    prepare=_prepare,
)

if __name__ == "__main__":
    print(json.dumps(_STARTS[sys.argv[1]](Path(sys.argv[2]))))
