"""A folder of cases preprocessed, from raw files to the files that training reads."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import nnunet
from benchmarks.definition import Benchmark, Contender, Job, Measurement, Size
from benchmarks.measure import PeakMemory, time_calls
from benchmarks.nnunet_plans import CONFIGURATION, DATASET, INTENSITIES, PLANS, make_plans

CASES: dict[Size, int] = {"small": 4, "full": 16}
MATRIX = 512
TARGET_MM = 1.99
PATCH = (128, 128, 128)
"""Training would read patches of this shape; nnU-Net chooses the chunks of its files by it."""

_REPEATS: dict[Size, int] = {"small": 1, "full": 2}


def _prepare(job: Job) -> None:
    from benchmarks.inputs import make_cases
    from kitsjax.data.kits import find_cases

    cases = find_cases(make_cases(job.folder, CASES[job.size], MATRIX))
    files = {case.case_id: (case.image.resolve(), case.label.resolve()) for case in cases}
    nnunet.use_folders(_nnunet_folder(job))
    nnunet.write_dataset(_nnunet_folder(job), make_unclipped_plans(), nnunet.make_dataset(files))


def _nnunet_folder(job: Job) -> Path:
    return job.folder / "nnunet"


def _kitsjax_folder(job: Job) -> Path:
    return job.folder / "kitsjax"


def make_unclipped_plans() -> dict:
    """Make plans whose range of intensities clips nothing.

    nnU-Net clips before it resamples, and kitsjax when it reads the HU that it stores. When nothing
    is clipped, both images can be compared.
    """
    plans = make_plans(TARGET_MM, PATCH, batch_size=4)
    whole = INTENSITIES | {"percentile_00_5": -1024.0, "percentile_99_5": 3071.0}
    return plans | {"foreground_intensity_properties_per_channel": {"0": whole}}


def _run_kitsjax(job: Job) -> Measurement:
    from benchmarks.inputs import make_cases
    from kitsjax.data.kits import find_cases
    from kitsjax.data.preprocess_cases import preprocess_cases
    from kitsjax.settings import PreprocessSettings

    cases = find_cases(make_cases(job.folder, CASES[job.size], MATRIX))
    settings = PreprocessSettings(spacing_mm=TARGET_MM)

    def work() -> None:
        # nnU-Net's preprocessor begins with an empty folder too.
        shutil.rmtree(_kitsjax_folder(job), ignore_errors=True)
        report = preprocess_cases(cases, _kitsjax_folder(job), settings, job.threads)
        if report.failures:
            raise RuntimeError(f"cases could not be preprocessed: {report.failures}")

    return _measure(job, work)


def _run_nnunet(job: Job) -> Measurement:
    nnunet.use_folders(_nnunet_folder(job))
    # Each worker already has a core; with several threads they would wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    return _measure(job, lambda: nnunet.preprocess(job.threads))


def _measure(job: Job, work: Callable[[], None]) -> Measurement:
    """Measure the seconds for all cases, and the memory of the largest worker."""
    with PeakMemory() as peak:
        # Each repetition starts new worker processes, which nothing could warm up.
        seconds = time_calls(work, _REPEATS[job.size], warm_up=0)
    return Measurement(seconds, units=CASES[job.size], peak_bytes=peak.bytes)


def _check(job: Job) -> dict[str, float]:
    """Compare shapes, labels, and images apart from their normalization."""
    nnunet.use_folders(_nnunet_folder(job))
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    from kitsjax.data.preprocessed_case import PreprocessedCase

    preprocessed = _nnunet_folder(job) / "preprocessed" / DATASET
    theirs = nnUNetDatasetBlosc2(str(preprocessed / f"{PLANS}_{CONFIGURATION}"))
    share, largest, mean = [], [], []
    for identifier in theirs.identifiers:
        # SimpleITK reads the axes of a KiTS file as (x, y, z).
        image, label = (np.asarray(array[0]).T for array in theirs.load_case(identifier)[:2])
        ours = PreprocessedCase(next(_kitsjax_folder(job).glob(f"{identifier}-*")))
        share.append(float(np.mean(ours.label() == label)))
        hu = image * INTENSITIES["std"] + INTENSITIES["mean"]
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
    """Measure how far an image is from a scaled and shifted copy of it, where neither is clipped.

    Voxels at the least or greatest value of either array count as clipped: skimage, which nnU-Net
    uses, cuts off a spline's overshoot at the input's range.

    Args:
        copy: the copy, with any scale and offset.
        image: the original, whose unit the result has.

    Returns:
        (n,) absolute differences after the best affine fit.

    Raises:
        ValueError: The shapes differ.
    """
    if copy.shape != image.shape:
        raise ValueError(f"images of {copy.shape} and {image.shape} are not of the same work")
    inside = np.logical_and.reduce([(a > a.min()) & (a < a.max()) for a in (copy, image)])
    x, y = copy[inside].astype(float), image[inside].astype(float)
    scale, offset = np.polyfit(x, y, 1)
    return np.abs(scale * x + offset - y)


BENCHMARK = Benchmark(
    "preprocess",
    "CTs of 512x512 slices and their labels to 1.99 mm, third order, from raw files to the files "
    "that training reads, a process for each core",
    (
        Contender("kitsjax", _run_kitsjax),
        Contender("nnU-Net", _run_nnunet, ("nnunetv2",)),
    ),
    goal={"cpu": 3, "gpu": 3},
    prepare=_prepare,
    check=_check,
)
