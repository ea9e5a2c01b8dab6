"""What the sides of `predict` share: the CT, the model, and how a prediction is measured."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.part import Job, Measurement, PeakMemory, time_calls
from kitsjax.types import Shape

CT_SHAPE, CT_SPACING_MM = (300, 512, 512), (3.0, 0.8, 0.8)

PLAIN, MIRRORED = "plain", "mirrored"


@dataclass(frozen=True)
class Task:
    """What the CT is predicted with.

    Attributes:
        spacing_mm: of the grid that windows lie on.
        patch_edge: of a window, voxels.
        features, max_features: channels of the first stage, and most of any.
        stage_features: channels of each encoder stage, which follow.
        intensities: of this very CT on that grid, HU, under nnU-Net's names: peers normalize by
            given numbers what kitsjax normalizes by each case's own.
    """

    spacing_mm: float
    patch_edge: int
    features: int
    max_features: int
    stage_features: tuple[int, ...] = ()
    intensities: dict[str, float] = field(default_factory=dict)

    @property
    def patch_shape(self) -> Shape:
        return self.patch_edge, self.patch_edge, self.patch_edge


# PyTorch's CPU backend hands convolutions of few voxels to a slow algorithm, one window at a time
# most of all; at 96 cubed it does so only below the two finest levels. Mirroring takes eight times
# the windows, so there are fewer.
_SMALL, _FULL = Task(4.0, 96, 8, 64), Task(1.99, 128, 32, 320)
_TASKS = {
    ("small", PLAIN): _SMALL,
    ("small", MIRRORED): Task(6.0, 96, 8, 64),
    ("full", PLAIN): _FULL,
    ("full", MIRRORED): _FULL,
}


def write_task(job: Job, variant: str, image: Callable[[float], np.ndarray]) -> Task:
    """Complete and keep the task of a variant.

    Args:
        image: the CT on a grid of so many mm, HU.
    """
    from kitsjax.model.unet import stage_features

    task = _TASKS[job.size, variant]
    features = stage_features(task.patch_shape, task.features, task.max_features, smallest=4)
    known = intensities(image(task.spacing_mm))
    task = replace(task, stage_features=features, intensities=known)
    (job.folder / f"{variant}.json").write_text(json.dumps(asdict(task)))
    return task


def intensities(image: np.ndarray) -> dict[str, float]:
    """The numbers that kitsjax normalizes a resampled image by, HU, under nnU-Net's names."""
    low, high = np.percentile(image, (0.5, 99.5))
    clipped = np.clip(image, low, high)
    return {
        "percentile_00_5": float(low),
        "percentile_99_5": float(high),
        "mean": float(clipped.mean(dtype=np.float64)),
        "std": float(clipped.std(dtype=np.float64)),
    }


def read_task(job: Job) -> Task:
    """The task as `prepare` completed it."""
    fields = json.loads((job.folder / f"{job.variant}.json").read_text())
    return Task(**{**fields, "stage_features": tuple(fields["stage_features"])})


def ct_path(job: Job) -> Path:
    return job.folder / "ct.nii.gz"


def model_path(job: Job) -> Path:
    """The bundle that kitsjax predicts with; beside it, .pt, the same parameters for PyTorch."""
    return job.folder / f"{job.variant}.safetensors"


def mask_path(job: Job, side: str) -> Path:
    return job.folder / side / f"{job.variant}.nii.gz"


def measure(job: Job, work: Callable[[], object]) -> Measurement:
    """Time predictions of the CT; the first, which compiles and picks algorithms, stands apart."""
    with PeakMemory() as peak:
        (first,) = time_calls(work, 1, warm_up=0)
        seconds = time_calls(work, 1 if job.size == "small" else 3, warm_up=0)
    return Measurement(seconds, peak_bytes=peak.bytes, values={"first call, s": first})
