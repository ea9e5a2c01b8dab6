"""A CT and its label brought to the network's spacing, on one core."""

from collections.abc import Callable

import numpy as np

from benchmarks.part import Job, Measurement, Part, PeakMemory, Side, time_calls

SHAPE, SPACING_MM = (200, 512, 512), (3.0, 0.8, 0.8)
TARGET_MM = 1.99


def _prepare(job: Job) -> None:
    from benchmarks.material import ct_arrays

    image, label = ct_arrays(SHAPE, SPACING_MM)
    # float32, as every side's reader hands it on.
    np.save(job.folder / "image.npy", image.astype(np.float32))
    np.save(job.folder / "labels.npy", label)


def _run_kitsjax(job: Job) -> Measurement:
    from kitsjax.image.resample import resample_image, resample_label

    shape = _new_shape()
    resample = {"image": resample_image, "labels": resample_label}[job.variant]
    return _measure(job, "kitsjax", lambda array: resample(array, shape), 5)


def _run_nnunet(job: Job) -> Measurement:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    shape, labels = _new_shape(), job.variant == "labels"

    def resample(array: np.ndarray) -> np.ndarray:
        # The orders that nnU-Net plans with; never separately in z, which would be another result.
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


def _new_shape() -> tuple[int, int, int]:
    from kitsjax.image.resample import resampled_shape

    return resampled_shape(SHAPE, SPACING_MM, TARGET_MM)


def _measure(
    job: Job, side: str, resample: Callable[[np.ndarray], np.ndarray], repeats: int
) -> Measurement:
    """CPU seconds of the variant's array, in memory; the last result stays for `check`."""
    array = np.load(job.folder / f"{job.variant}.npy")
    results: list[np.ndarray] = []

    def work() -> None:
        # Two results at once would count as memory that the work needs.
        results.clear()
        results.append(resample(array))

    with PeakMemory() as peak:
        seconds = time_calls(work, repeats, cpu=True)
    np.save(job.folder / f"{job.variant}-{side}.npy", results[0])
    return Measurement(seconds, peak_bytes=peak.bytes)


def _check(job: Job) -> dict[str, float]:
    ours, nnunet, skimage = (
        np.load(job.folder / f"{job.variant}-{side}.npy")
        for side in ("kitsjax", "nnunet", "skimage")
    )
    peers = {"nnU-Net": nnunet, "scikit-image": skimage}
    if job.variant == "labels":
        return {
            f"share of voxels as {name}": float(np.mean(ours == p)) for name, p in peers.items()
        }
    image = np.load(job.folder / "image.npy", mmap_mode="r")
    return {
        f"largest difference from {name}, HU": largest_difference(ours, peer, image)
        for name, peer in peers.items()
    }


def largest_difference(ours: np.ndarray, peer: np.ndarray, image: np.ndarray) -> float:
    """Between results of resampling `image`, both kept to its range.

    skimage, which nnU-Net uses, cuts off a spline's overshoot beyond that; kitsjax clips later, at
    the image's percentiles.
    """
    return float(np.abs(np.clip(ours, image.min(), image.max()) - peer).max())


PART = Part(
    "resample",
    "CT 200x512x512 at 3x0.8x0.8 mm to 1.99 mm, third order, and its labels; CPU seconds",
    (
        Side("kitsjax", _run_kitsjax),
        Side("nnU-Net", _run_nnunet, ("nnunetv2",)),
        Side("scikit-image", _run_skimage, ("skimage",)),
    ),
    goal={"cpu": 8, "gpu": 8},
    variants=("image", "labels"),
    prepare=_prepare,
    check=_check,
    threads=1,
)
