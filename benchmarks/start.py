"""Part `start`: from the command to the first step's end, in new processes, compilation included.

`python -m benchmarks.start SIDE FOLDER` is such a process.
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
from benchmarks.part import Job, Measurement, Part, Side, Size
from benchmarks.step import dummy_arrays, dummy_batch, nnunet_batch

COLD, CACHED = "cold", "cached"

COMPILED = ("xla", "torchinductor_cache_dir", "triton_cache_dir")
"""Folders of compiled programs in a side's cache; what else is there, such as matplotlib's list of
fonts, any user has."""

_OVERRIDES: dict[Size, tuple[str, ...]] = {
    # configs/phantom.toml's and configs/kits21.toml's.
    "small": (
        "sampling.patch_shape=[48, 48, 48]", "sampling.batch_size=2", "preprocess.spacing_mm=4.0",
        "network.features=8", "network.max_features=64", "network.deep_supervision=3",
        "loss.dice_per_batch=true",
    ),
    "full": ("network.max_features=320",),
}  # fmt: skip


def _prepare(job: Job) -> None:
    """The settings file, which names the compilation cache, and nnU-Net's plans of the same."""
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
    plans = nnunet.plans(
        settings.preprocess.spacing_mm, sampling.patch_shape, sampling.batch_size, features
    )
    (job.folder / "plans.json").write_text(json.dumps(plans))


def _run(side: str, job: Job) -> Measurement:
    """Start once, with compiled programs that an earlier start left, or without."""
    cache = job.folder / side / "cache"
    if not cache.exists():
        # So that the first side's first start does not pay for reading Python packages from disk.
        start(side, job.folder)
    if job.variant == COLD:
        for name in COMPILED:
            shutil.rmtree(cache / name, ignore_errors=True)
    reached = start(side, job.folder)
    *_, seconds = reached.values()
    return Measurement([seconds], values={f"{name}, s": value for name, value in reached.items()})


def start(side: str, folder: Path) -> dict[str, float]:
    """Start a process that takes one step; seconds since the command to all that it reaches."""
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.start", side, str(folder)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    reached: dict[str, float] = json.loads(output.splitlines()[-1])
    return {name: moment - began for name, moment in reached.items()}


def _start_kitsjax(folder: Path) -> dict[str, float]:
    import jax

    from kitsjax.config import load_settings
    from kitsjax.devices import start_devices
    from kitsjax.train.augment import oversized_shape
    from kitsjax.train.program import build_program
    from kitsjax.train.sharding import replicate, shard
    from kitsjax.train.step import init_state

    reached = {"imported": time.time()}
    settings = load_settings(folder / "settings.toml")
    start_devices(settings.run, keep_memory=True)
    sampling = settings.sampling
    source = oversized_shape(sampling.patch_shape, settings.augment)
    batch = dummy_arrays(source, sampling.batch_size, settings.preprocess.dtype)
    program = build_program(settings)
    state = init_state(program.network, program.optimizer, settings.train.seed)
    state = jax.block_until_ready(replicate(state))
    reached["initialized"] = time.time()
    jax.block_until_ready(program.train_step(state, shard(batch, jax.local_device_count())))
    return {**reached, "first step": time.time()}


def _start_nnunet(folder: Path) -> dict[str, float]:
    nnunet.use_folders(folder / "nnU-Net")
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    reached = {"imported": time.time()}
    assert nnUNetTrainer is not None  # imported to be timed
    plans = json.loads((folder / "plans.json").read_text())
    configuration = plans["configurations"][nnunet.CONFIGURATION]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = nnunet.build_trainer(plans, nnunet.dataset_json(), "all", device)
    trainer.network.train()
    z, y, x = configuration["patch_size"]
    batch = nnunet_batch(trainer, *dummy_batch((z, y, x), configuration["batch_size"]))
    reached["initialized"] = time.time()
    # Its loss, a NumPy number, has been waited for.
    trainer.train_step(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return {**reached, "first step": time.time()}


_STARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "kitsjax": _start_kitsjax,
    "nnU-Net": _start_nnunet,
}


PART = Part(
    name="start",
    work="from the command to the end of the first train step on a dummy batch, a new process; "
    "full: configs/kits21.toml's network and batch, small: configs/phantom.toml's",
    sides=(
        Side("kitsjax", partial(_run, "kitsjax")),
        Side("nnU-Net", partial(_run, "nnU-Net"), ("torch", "nnunetv2")),
    ),
    variants=(COLD, CACHED),
    prepare=_prepare,
)

if __name__ == "__main__":
    print(json.dumps(_STARTS[sys.argv[1]](Path(sys.argv[2]))))
