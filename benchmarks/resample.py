"""A CT and its label resampled to the network's spacing, on one core."""

from collections.abc import Callable

import numpy as np

from benchmarks.definition import Benchmark, Contender, Job, Measurement
from benchmarks.measure import PeakMemory, time_calls
from kitsjax.types import Shape

SHAPE, SPACING_MM = (200, 512, 512), (3.0, 0.8, 0.8)
TARGET_MM = 1.99


def _prepare(job: Job) -> None:
    from benchmarks.inputs import make_arrays

    image, label = make_arrays(SHAPE, SPACING_MM)
    # Every contender's reader of files returns float32.
    np.save(job.folder / "image.npy", image.astype(np.float32))
    np.save(job.folder / "labels.npy", label)


def _run_kitsjax(job: Job) -> Measurement:
    from kitsjax.image.resample import resample_image, resample_nearest

    shape = _new_shape()
    resample = {"image": resample_image, "labels": resample_nearest}[job.variant]
    return _measure(job, "kitsjax", lambda array: resample(array, shape), 5)


def _run_nnunet(job: Job) -> Measurement:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    shape, labels = _new_shape(), job.variant == "labels"

    def resample(array: np.ndarray) -> np.ndarray:
        # These orders are those of nnU-Net's plans. z is never resampled separately, which would
        # give another result.
        resampled: np.ndarray = resample_data_or_seg_to_shape(
            array[None], shape, SPACING_MM, (TARGET_MM,) * 3, is_seg=labels,
            order=1 if labels else 3, order_z=0, force_separate_z=False,
        )  # fmt: skip
        return resampled[0]

    return _measure(job, "nnunet", resample, 2)


def _run_skimage(job: Job) -> Measurement:
    from skimage.transform import resize

    shape, order = _new_shape(), {"image": 3, "labels": 0}[job.variant]

    def resample(array: np.ndarray) -> np.ndarray:
        resized: np.ndarray = resize(
            array, shape, order=order, mode="edge", anti_aliasing=False, preserve_range=True
        )
        return resized

    return _measure(job, "skimage", resample, 2)


def _new_shape() -> Shape:
    from kitsjax.image.resample import resampled_shape

    return resampled_shape(SHAPE, SPACING_MM, TARGET_MM)


def _measure(
    job: Job, name: str, resample: Callable[[np.ndarray], np.ndarray], repeats: int
) -> Measurement:
    """Measure the CPU seconds for the variant's array; keep the last result for the check."""
    array = np.load(job.folder / f"{job.variant}.npy")
    results: list[np.ndarray] = []

    def work() -> None:
        # The earlier result would count as memory that the work needs.
        results.clear()
        results.append(resample(array))

    with PeakMemory() as peak:
        seconds = time_calls(work, repeats, cpu=True)
    np.save(job.folder / f"{job.variant}-{name}.npy", results[0])
    return Measurement(seconds, peak_bytes=peak.bytes)


def _check(job: Job) -> dict[str, float]:
    ours, nnunet, skimage = (
        np.load(job.folder / f"{job.variant}-{name}.npy")
        for name in ("kitsjax", "nnunet", "skimage")
    )
    baselines = {"nnU-Net": nnunet, "scikit-image": skimage}
    if job.variant == "labels":
        return {
            f"share of voxels as {name}": float(np.mean(ours == theirs))
            for name, theirs in baselines.items()
        }
    image = np.load(job.folder / "image.npy", mmap_mode="r")
    return {
        f"largest difference from {name}, HU": largest_difference(ours, theirs, image)
        for name, theirs in baselines.items()
    }


def largest_difference(ours: np.ndarray, theirs: np.ndarray, image: np.ndarray) -> float:
    """Compare two results of resampling `image`, within the range of its values.

    skimage, which nnU-Net uses, cuts off a spline's overshoot beyond that range; kitsjax clips
    later, at the image's percentiles.
    """
    return float(np.abs(np.clip(ours, image.min(), image.max()) - theirs).max())


BENCHMARK = Benchmark(
    "resample",
    "CT 200x512x512 at 3x0.8x0.8 mm to 1.99 mm, third order, and its labels; CPU seconds",
    (
        Contender("kitsjax", _run_kitsjax),
        Contender("nnU-Net", _run_nnunet, ("nnunetv2",)),
        Contender("scikit-image", _run_skimage, ("skimage",)),
    ),
    goal={"cpu": 8, "gpu": 8},
    variants=("image", "labels"),
    prepare=_prepare,
    check=_check,
    threads=1,
)
