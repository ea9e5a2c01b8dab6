"""Batches per second: patches that are read, augmented and on the device for the network.

In the variant "paper" both contenders apply the paper's six augmentations, each with the same
probability and range. In "nnunet" nnU-Net applies all of its own recipe, and kitsjax those
augmentations of it that it has, with the same probabilities.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import nnunet
from benchmarks.definition import AS_COMMANDS, Benchmark, Contender, Job, Measurement, Size
from benchmarks.measure import PeakMemory, time_calls
from benchmarks.nnunet_plans import make_plans
from kitsjax.settings import (
    AugmentSettings,
    PreprocessSettings,
    RunSettings,
    SamplingSettings,
    Settings,
)
from kitsjax.types import Shape

PATCH: Shape = (128, 128, 128)
BATCH = 4
CASES = 4
MATRIX = 256
"""A slice is so many voxels wide, half of a CT's. Resampled to 1.99 mm, the cases are as large as
any others."""

MISSING = "noise .1, blur .2, low resolution .25, inverted gamma .1"
"""nnU-Net also applies these augmentations, with these probabilities; kitsjax lacks them."""

AUGMENT = {
    "paper": AugmentSettings(),
    "nnunet": AugmentSettings(
        mirror=1.0, rotate=0.2, scale=0.2, brightness=0.15, contrast=0.15, gamma=0.3
    ),
}
"""kitsjax augments like this in each variant. nnU-Net flips each axis of every patch with
probability 1/2."""


class _Plan(NamedTuple):
    """Number of batches in a repetition, many more than lie ready at its start; repetitions."""

    batches: int
    repeats: int


_PLANS: dict[Size, _Plan] = {"small": _Plan(8, 2), "full": _Plan(100, 3)}


def batch_settings(job: Job) -> Settings:
    """Make the settings of kitsjax's pipeline and augmentation."""
    devices = max(n for n in range(1, job.threads + 1) if BATCH % n == 0)
    return Settings(
        sampling=SamplingSettings(patch_shape=PATCH, batch_size=BATCH, threads=job.threads),
        augment=AUGMENT[job.variant],
        run=RunSettings(compilation_cache=str(job.folder / "xla"), cpu_devices=devices),
    )


def _prepare(job: Job) -> None:
    """Preprocess the same cases with each contender."""
    from benchmarks.inputs import make_cases
    from kitsjax.data.kits import find_cases
    from kitsjax.data.preprocess_cases import preprocess_cases

    cases = find_cases(make_cases(job.folder, CASES, MATRIX))
    preprocess_cases(cases, job.folder / "kitsjax", PreprocessSettings(), job.threads)
    folder = job.folder / "nnunet"
    files = {case.case_id: (case.image.resolve(), case.label.resolve()) for case in cases}
    nnunet.use_folders(folder)
    nnunet.write_dataset(folder, _nnunet_plans(), nnunet.make_dataset(files))
    nnunet.preprocess(job.threads)


def _run_kitsjax(job: Job) -> Measurement:
    from functools import partial

    import jax

    from kitsjax.data.pipeline import batches
    from kitsjax.data.preprocessed_case import PreprocessedCase
    from kitsjax.devices import start_devices
    from kitsjax.train.augment import augment_patches, oversized_shape
    from kitsjax.train.replication import shard

    settings = batch_settings(job)
    start_devices(settings.run, keep_memory=True)
    cases = [PreprocessedCase(folder) for folder in sorted((job.folder / "kitsjax").iterdir())]
    oversized = oversized_shape(PATCH, settings.augment)
    stream = batches(cases, settings.sampling, oversized, preprocess=settings.preprocess, seed=0)
    augment = jax.pmap(
        partial(augment_patches, seed=0, patch_shape=PATCH, settings=settings.augment)
    )

    def deliver() -> Any:
        batch = next(stream)
        arrays = {name: batch[name] for name in ("image", "label", "index")}
        return augment(shard(arrays, jax.local_device_count()))

    return _measure(job, deliver, jax.block_until_ready, {})


def _run_nnunet(job: Job) -> Measurement:
    nnunet.use_folders(job.folder / "nnunet")
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = nnunet.build_trainer(_nnunet_plans(), device)
    if job.variant == "paper":
        trainer.get_training_transforms = paper_transforms
    loader, validation = trainer.get_dataloaders()
    # The workers of validation would fill their queue while training's are measured.
    validation._finish()

    def deliver() -> Any:
        batch = next(loader)
        targets = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
        # nnUNetTrainer.train_step does the same.
        return [t.to(trainer.device, non_blocking=True) for t in (batch["data"], *targets)]

    def wait(_: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    values = {} if job.variant == "paper" else {"without counterpart in kitsjax": MISSING}
    measurement = _measure(job, deliver, wait, values)
    loader._finish()
    return measurement


def paper_transforms(patch_shape: Shape, *_: Any, **__: Any) -> Any:
    """Build kitsjax's default augmentation from nnU-Net's transforms.

    It takes the arguments of nnU-Net's `get_training_transforms`. Labels are resampled by nearest
    neighbor, as in kitsjax, rather than interpolated label by label, and there are targets of one
    resolution only.
    """
    import numpy as np
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform
    from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

    augment = AUGMENT["paper"]
    limit = float(np.deg2rad(augment.rotation_degrees))
    spatial = SpatialTransform(
        patch_shape, patch_center_dist_from_border=0, random_crop=False,
        p_rotation=augment.rotate, rotation=(-limit, limit),
        p_scaling=augment.scale, scaling=augment.scale_range, p_synchronize_scaling_across_axes=1,
        mode_seg="nearest", border_mode_seg="constant", padding_value_seg=-1,
    )  # fmt: skip
    channel = {"synchronize_channels": False, "p_per_channel": 1}
    brightness = MultiplicativeBrightnessTransform(augment.brightness_range, **channel)
    contrast = ContrastTransform(augment.contrast_range, preserve_range=True, **channel)
    gamma = GammaTransform(
        BGContrast(augment.gamma_range), p_invert_image=0, p_retain_stats=1, **channel
    )
    return ComposeTransforms([
        spatial,
        RandomTransform(MirrorTransform((0, 1, 2)), augment.mirror),
        RandomTransform(brightness, augment.brightness),
        RandomTransform(contrast, augment.contrast),
        RandomTransform(gamma, augment.gamma),
        RemoveLabelTansform(-1, 0),
    ])  # fmt: skip


def _nnunet_plans() -> dict[str, Any]:
    return make_plans(PreprocessSettings().spacing_mm, PATCH, BATCH)


def _measure(
    job: Job, deliver: Callable[[], Any], wait: Callable[[Any], object], values: dict[str, Any]
) -> Measurement:
    """Time a series of batches. As in training, the next is asked for before one is waited for."""
    plan = _PLANS[job.size]

    def work() -> None:
        batch = deliver()
        for _ in range(plan.batches - 1):
            following = deliver()
            wait(batch)
            batch = following
        wait(batch)

    with PeakMemory() as peak:
        seconds = time_calls(work, plan.repeats)
    return Measurement(seconds, plan.batches * BATCH, peak.bytes, values=values)


BENCHMARK = Benchmark(
    "batches",
    f"{CASES} preprocessed cases to augmented patches of 128 cubed on the device, "
    f"{BATCH} a batch, a worker for each core",
    (
        Contender("kitsjax", _run_kitsjax, variables=AS_COMMANDS),
        Contender("nnU-Net", _run_nnunet, needs=("nnunetv2", "torch")),
    ),
    goal={"cpu": 1.0, "gpu": 5.0},
    variants=tuple(AUGMENT),
    prepare=_prepare,
)
