"""Raw case -> preprocessed case on disk (P1, P2): memory-mapped, in parallel, restartable.

A preprocessed case is a folder:

    image.npy         (z, y, x) float16 or float32, normalized
    label.npy         (z, y, x) uint8
    foreground_1.npy  (n, 3) int32 positions of some voxels of label 1; likewise 2 and 3
    case.json         what it was made from, its geometry and intensity statistics
    annotations/      where asked for: the individual annotations (`kitsjax.data.label_source`)

The foreground positions are the majority label's, whatever label is trained on.
"""

import hashlib
import json
import math
import resource
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kitsjax.data.annotations import read_instances
from kitsjax.data.kits import ANNOTATIONS_NAME, Case
from kitsjax.data.label_source import ANNOTATIONS, resample_instance, write_instances
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.resample import resample_image, resample_label, resampled_shape
from kitsjax.image.volume import Volume, check_same_grid, format_numbers
from kitsjax.labels import FOREGROUND
from kitsjax.parallel import map_cases
from kitsjax.settings import PreprocessSettings

FORMAT = 1
"""Raised when the meaning of a stored file changes, so that old caches are made anew."""


MOST_VOXELS = 2**30
"""Of a preprocessed image: a cube of two meters at 1.99 mm, and 4 GiB."""


@dataclass(frozen=True)
class PreprocessReport:
    """What `preprocess_cases` did: cases made, cases found up to date, (case, message) of the
    failed, and the peak memory of the largest worker in GiB."""

    made: int
    kept: int
    failures: list[tuple[str, str]]
    peak_gib: float


def cache_folder(cache: str | Path, settings: PreprocessSettings) -> Path:
    """Where cases preprocessed with these settings lie: other settings, another folder."""
    text = f"{FORMAT} {settings.model_dump_json()}"
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path(cache) / f"{settings.spacing_mm:g}mm-{key}"


def normalize(array: np.ndarray, settings: PreprocessSettings) -> np.ndarray:
    """Clip at the case's own percentiles, then subtract the mean and divide by the sd (P2).

    Over all voxels, in float32 (sums in float64). A constant volume gives zeros.
    """
    image = np.array(array, np.float32)
    low, high = np.percentile(image, (settings.lower_percentile, settings.upper_percentile))
    np.clip(image, low, high, out=image)
    image -= np.mean(image, dtype=np.float64)
    deviation = np.std(image, dtype=np.float64)
    # A volume is constant when what is left of it is rounding error.
    if deviation <= 1e-6 * max(abs(low), abs(high)):
        return np.zeros_like(image)
    image /= deviation
    return image


def preprocess(volume: Volume, settings: PreprocessSettings) -> np.ndarray:
    """What the network sees of a CT in HU: resampled (P1), normalized (P2), as stored.

    Training and prediction both come through here and so see the same numbers, the rounding to
    half precision included.

    Returns:
        (z, y, x) array of `settings.dtype` with the volume's extent: its voxels are of extent over
        shape, which is isotropic but for the rounding of the shape.

    Raises:
        InputError: voxels that are not finite, or so large that they cannot be mm.
    """
    shape = resampled_shape(volume.array.shape, volume.spacing_mm, settings.spacing_mm)
    name = volume.grid.name
    if math.prod(shape) > MOST_VOXELS:
        raise InputError(
            f"{name}: voxels of {format_numbers(volume.spacing_mm)} mm make {shape} at "
            f"{settings.spacing_mm:g} mm; correct the spacing"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        resampled = resample_image(volume.array, shape)
    # The spline hands on what is not finite, and there are fewer voxels to look at.
    if not np.isfinite(resampled).all():
        raise InputError(f"{name}: holds voxels that are not finite numbers; give it in HU")
    return normalize(resampled, settings).astype(settings.dtype)


def foreground_positions(label: np.ndarray, value: int, least: int, seed: int) -> np.ndarray:
    """Up to max(`least`, 1%) random voxel positions of a label value, (n, 3) int32 (nnU-Net)."""
    flat = np.flatnonzero(label == value)
    keep = max(least, flat.size // 100)
    if flat.size > keep:
        flat = np.sort(np.random.default_rng((seed, value)).choice(flat, keep, replace=False))
    return np.stack(np.unravel_index(flat, label.shape), axis=-1).astype(np.int32)


def preprocess_case(case: Case, folder: Path, settings: PreprocessSettings) -> None:
    """Write the preprocessed case `folder`, whole or not at all.

    Raises:
        InputError: a bad file, or image and label of different geometry.
    """
    volume, label = read_volume(case.image), read_label(case.label)
    check_same_grid(volume.grid, label.grid)
    image = preprocess(volume, settings)
    resampled = resample_label(label.array, image.shape)
    extent_mm = np.multiply(volume.array.shape, volume.spacing_mm)
    description = {
        "case_id": case.case_id,
        "inputs": _stamp([case.image, case.label]),
        "shape": image.shape,
        # Rounding the shape (P1) leaves the voxel edge a little off the target.
        "spacing_mm": (extent_mm / image.shape).tolist(),
        "native_shape": volume.array.shape,
        "native_spacing_mm": [float(s) for s in volume.spacing_mm],
        "voxels": {str(v): int((resampled == v).sum()) for v in FOREGROUND},
    }
    with atomic_write(folder) as beside:
        beside.mkdir()
        np.save(beside / "image.npy", image)
        np.save(beside / "label.npy", resampled)
        for value in FOREGROUND:
            positions = foreground_positions(
                resampled, value, settings.foreground_voxels, case.number
            )
            np.save(beside / f"foreground_{value}.npy", positions)
        (beside / "case.json").write_text(json.dumps(description, indent=1))


def annotate_case(case: Case, folder: Path) -> None:
    """Add a case's individual annotations to its preprocessed case `folder`, whole or not at all.

    Raises:
        InputError: the case has none, or one is bad or on another grid than the image.
    """
    if case.annotations is None:
        raise _no_annotations(case)
    native, shape = read_grid(case.image), PreprocessedCase(folder).shape
    instances = [
        resample_instance(instance, native.shape, shape)
        for instance in read_instances(case.annotations, native)
    ]
    write_instances(folder / ANNOTATIONS, instances, _stamp(_annotation_files(case)))


def is_current(case: Case, folder: Path) -> bool:
    """Whether a preprocessed case was made from these very input files (path, size and time)."""
    return _made_from(folder / "case.json", [case.image, case.label])


def is_annotated(case: Case, folder: Path) -> bool:
    """Likewise of the individual annotations in it."""
    return _made_from(folder / ANNOTATIONS / "instances.json", _annotation_files(case))


def preprocess_cases(
    cases: Sequence[Case],
    folder: Path,
    settings: PreprocessSettings,
    workers: int = 0,
    annotations: bool = False,
) -> PreprocessReport:
    """Preprocess what is missing or out of date under `folder`, `workers` cases at a time.

    A case that fails is reported and the rest go on; a killed run keeps its finished cases.

    Args:
        workers: processes; 0: one a core.
        annotations: the individual annotations too; a case that lacks nothing else gets only them.
    """
    todo = [
        case
        for case in cases
        if not is_current(case, folder / case.case_id)
        or (annotations and not is_annotated(case, folder / case.case_id))
    ]
    failures: list[tuple[str, str]] = []
    peak = 0.0
    # Apart from this process, whose memory is not that of preprocessing.
    results = map_cases(
        partial(_work, folder, settings, annotations), todo, workers, "preprocess", isolated=True
    )
    for case, result in results:
        if isinstance(result, InputError):
            failures.append((case.case_id, str(result)))
        else:
            peak = max(peak, result)
    made = len(todo) - len(failures)
    return PreprocessReport(made, len(cases) - len(todo), sorted(failures), peak)


def _work(folder: Path, settings: PreprocessSettings, annotations: bool, case: Case) -> float:
    """Preprocess a case and return this process's peak memory so far in GiB."""
    if annotations and case.annotations is None:
        # Before the image, which is the long part.
        raise _no_annotations(case)
    if not is_current(case, folder / case.case_id):
        preprocess_case(case, folder / case.case_id, settings)
    if annotations:
        annotate_case(case, folder / case.case_id)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _no_annotations(case: Case) -> InputError:
    return InputError(
        f"{case.folder}: has no individual annotations ({ANNOTATIONS_NAME}); add KiTS21's, or "
        "train on its one label, data.label_source=majority"
    )


def _annotation_files(case: Case) -> list[Path]:
    return sorted(case.annotations.glob("[!.]*.nii.gz")) if case.annotations else []


def _made_from(record: Path, paths: Iterable[Path]) -> bool:
    try:
        return json.loads(record.read_text())["inputs"] == _stamp(paths)
    except (OSError, ValueError, KeyError):
        return False


def _stamp(paths: Iterable[Path]) -> list[list[str | int]]:
    """What tells an input file from another version of it, without reading it whole."""
    return [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
