"""A folder of cases preprocessed, from raw files to the files that training reads."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import nnunet
from benchmarks.part import Job, Measurement, Part, PeakMemory, Side, Size, time_calls

CASES: dict[Size, int] = {"small": 4, "full": 16}
MATRIX = 512
TARGET_MM = 1.99
PATCH = (128, 128, 128)
"""Trained on; nnU-Net chunks its files by it."""

_REPEATS: dict[Size, int] = {"small": 1, "full": 2}


def _prepare(job: Job) -> None:
    from benchmarks.material import make_cases
    from kitsjax.data.kits import find_cases

    cases = find_cases(make_cases(job.folder, CASES[job.size], MATRIX))
    files = {case.case_id: (case.image.resolve(), case.label.resolve()) for case in cases}
    nnunet.use_folders(_peer_folder(job))
    nnunet.write_dataset(_peer_folder(job), _plans(), nnunet.dataset_json(files))


def _peer_folder(job: Job) -> Path:
    return job.folder / "nnunet"


def _our_folder(job: Job) -> Path:
    return job.folder / "kitsjax"


def _plans() -> dict:
    plans = nnunet.plans(TARGET_MM, PATCH, batch_size=4)
    # nnU-Net clips before it resamples and kitsjax after, by each case's own percentiles: with a
    # range that cuts nothing off the work is the same, and `check` can compare what is left.
    whole = nnunet.INTENSITIES | {"percentile_00_5": -1024.0, "percentile_99_5": 3071.0}
    return plans | {"foreground_intensity_properties_per_channel": {"0": whole}}


def _run_kitsjax(job: Job) -> Measurement:
    from benchmarks.material import make_cases
    from kitsjax.data.kits import find_cases
    from kitsjax.data.update_cache import preprocess_cases
    from kitsjax.settings import PreprocessSettings

    cases = find_cases(make_cases(job.folder, CASES[job.size], MATRIX))
    settings = PreprocessSettings(spacing_mm=TARGET_MM)

    def work() -> None:
        # nnU-Net's preprocessor too begins with an empty folder.
        shutil.rmtree(_our_folder(job), ignore_errors=True)
        report = preprocess_cases(cases, _our_folder(job), settings, job.threads)
        if report.failures:
            raise RuntimeError(f"not all preprocessed: {report.failures}")

    return _measure(job, work)


def _run_nnunet(job: Job) -> Measurement:
    nnunet.use_folders(_peer_folder(job))
    # Its workers already take a core each; threads of theirs would only be in each other's way.
    os.environ["OMP_NUM_THREADS"] = "1"
    return _measure(job, lambda: nnunet.preprocess(job.threads))


def _measure(job: Job, work: Callable[[], None]) -> Measurement:
    """Seconds for all cases; memory is the largest worker's."""
    with PeakMemory() as peak:
        # Workers are new processes in each repetition, so one that warms up would change nothing.
        seconds = time_calls(work, _REPEATS[job.size], warm_up=0)
    return Measurement(seconds, units=CASES[job.size], peak_bytes=peak.bytes)


def _check(job: Job) -> dict[str, float]:
    """Whether both did the same: shapes, labels, and images but for each one's normalization."""
    nnunet.use_folders(_peer_folder(job))
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    from kitsjax.data.preprocessed_case import PreprocessedCase

    preprocessed = _peer_folder(job) / "preprocessed" / nnunet.DATASET
    peer = nnUNetDatasetBlosc2(str(preprocessed / f"{nnunet.PLANS}_{nnunet.CONFIGURATION}"))
    share, largest, mean = [], [], []
    for identifier in peer.identifiers:
        # SimpleITK reads a KiTS file's axes as (x, y, z).
        image, label = (np.asarray(array[0]).T for array in peer.load_case(identifier)[:2])
        ours = PreprocessedCase(_our_folder(job) / identifier)
        share.append(float(np.mean(ours.label() == label)))
        hu = image * nnunet.INTENSITIES["std"] + nnunet.INTENSITIES["mean"]
        difference = affine_differences(np.asarray(ours.image(), np.float32), hu)
        largest.append(float(difference.max()))
        mean.append(float(difference.mean()))
    return {
        "cases": len(share),
        "share of label voxels as nnU-Net": min(share),
        "largest difference of an image, HU": max(largest),
        "mean difference of an image, HU": max(mean),
    }


def affine_differences(copy: np.ndarray, image: np.ndarray) -> np.ndarray:
    """How far an image is from a scaled and shifted copy of it, where neither was clipped.

    Voxels at either one's least or greatest value count as clipped: kitsjax clips at percentiles,
    and skimage, which nnU-Net uses, cuts off a spline's overshoot at the input's range.

    Args:
        copy: any scale and offset.
        image: the original, whose unit the result has.

    Returns:
        (n,) absolute differences after the best affine fit.

    Raises:
        ValueError: shapes differ.
    """
    if copy.shape != image.shape:
        raise ValueError(f"images of {copy.shape} and {image.shape} are not of the same work")
    inside = np.logical_and.reduce([(a > a.min()) & (a < a.max()) for a in (copy, image)])
    x, y = copy[inside].astype(float), image[inside].astype(float)
    scale, offset = np.polyfit(x, y, 1)
    return np.abs(scale * x + offset - y)


PART = Part(
    "preprocess",
    "CTs of 512x512 slices and their labels to 1.99 mm, third order, from raw files to the files "
    "that training reads, a process a core",
    (
        Side("kitsjax", _run_kitsjax),
        Side("nnU-Net", _run_nnunet, ("nnunetv2",)),
    ),
    goal={"cpu": 3, "gpu": 3},
    prepare=_prepare,
    check=_check,
)
