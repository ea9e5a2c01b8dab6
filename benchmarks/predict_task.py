"""What the contenders of `predict` share: the CT, the task, the files, and the measurement."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.definition import Job, Measurement
from benchmarks.measure import PeakMemory, time_calls
from kitsjax.types import Shape

CT_SHAPE, CT_SPACING_MM = (300, 512, 512), (3.0, 0.8, 0.8)

PLAIN, MIRRORED = "plain", "mirrored"


@dataclass(frozen=True)
class Task:
    """How the CT is predicted.

    Attributes:
        spacing_mm: voxel edge of the resampled CT.
        patch_edge: edge of a window, in voxels.
        features: channels of the first stage.
        max_features: most channels of any stage.
        stage_features: channels of each encoder stage; they follow from the others.
        intensities: statistics of the resampled CT in HU, under nnU-Net's names. kitsjax
            normalizes each image by its own statistics, the baselines by given numbers: these.
    """

    spacing_mm: float
    patch_edge: int
    features: int
    max_features: int
    stage_features: tuple[int, ...] = ()
    intensities: dict[str, float] = field(default_factory=dict)

    @property
    def patch_shape(self) -> Shape:
        """Shape of a window."""
        return self.patch_edge, self.patch_edge, self.patch_edge


# PyTorch's CPU backend computes convolutions of few voxels with a slow algorithm, above all with
# one window at a time. At 96 cubed only the levels below the two finest are so small. Mirroring
# takes eight times as long per window, so its larger spacing leaves fewer windows.
_SMALL, _FULL = Task(4.0, 96, 8, 64), Task(1.99, 128, 32, 320)
_TASKS = {
    ("small", PLAIN): _SMALL,
    ("small", MIRRORED): Task(6.0, 96, 8, 64),
    ("full", PLAIN): _FULL,
    ("full", MIRRORED): _FULL,
}


def write_task(job: Job, variant: str, resample: Callable[[float], np.ndarray]) -> Task:
    """Complete the task of a variant and write it to the job's folder.

    Args:
        resample: returns the CT, in HU, with a voxel edge of so many mm.
    """
    from kitsjax.model.unet import stage_features

    task = _TASKS[job.size, variant]
    features = stage_features(task.patch_shape, task.features, task.max_features, smallest=4)
    statistics = compute_intensities(resample(task.spacing_mm))
    task = replace(task, stage_features=features, intensities=statistics)
    (job.folder / f"{variant}.json").write_text(json.dumps(asdict(task)))
    return task


def compute_intensities(image: np.ndarray) -> dict[str, float]:
    """Compute the statistics that kitsjax normalizes a resampled image by, in HU."""
    from kitsjax.data.normalization import count_hu, measure_normalization
    from kitsjax.settings import PreprocessSettings

    hu = np.rint(image).astype(np.int16)
    found = measure_normalization(count_hu(hu), PreprocessSettings())
    return {
        "percentile_00_5": found.low,
        "percentile_99_5": found.high,
        "mean": found.mean,
        "std": found.deviation,
    }


def read_task(job: Job) -> Task:
    """Read the task that `write_task` wrote."""
    fields = json.loads((job.folder / f"{job.variant}.json").read_text())
    return Task(**{**fields, "stage_features": tuple(fields["stage_features"])})


def ct_path(job: Job) -> Path:
    """Return the path of the CT."""
    return job.folder / "ct.nii.gz"


def model_path(job: Job) -> Path:
    """Return the path of kitsjax's model file; PyTorch's, with the same parameters, ends in .pt."""
    return job.folder / f"{job.variant}.safetensors"


def mask_path(job: Job, contender: str) -> Path:
    """Return the path of a contender's mask."""
    return job.folder / contender / f"{job.variant}.nii.gz"


def measure(job: Job, work: Callable[[], object]) -> Measurement:
    """Time predictions of the CT; the first one, which compiles, is a value of its own."""
    with PeakMemory() as peak:
        (first,) = time_calls(work, 1, warm_up=0)
        seconds = time_calls(work, 1 if job.size == "small" else 3, warm_up=0)
    return Measurement(seconds, peak_bytes=peak.bytes, values={"first call, s": first})
