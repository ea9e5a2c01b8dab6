"""Make one preprocessed case from the files of a case.

A preprocessed case is a folder:

    image.npy         (z, y, x) int16, HU
    histogram.npy     (3, n) int64: HU, and how many voxels, and labeled voxels, have it
    label.npy         (z, y, x) uint8, the majority label
    foreground_1.npy  (n, 3) int32 positions of some voxels of label value 1; likewise the others
    case.json         its shapes and spacings, and its number of voxels
    annotations-*/    if asked for: its instances (`kitsjax.data.stored_instances`)

The folder is written atomically and does not change afterwards.

The foreground positions are those of the majority label, whatever label is trained on. The label
keeps the value of voxels that nobody annotated; no position is theirs, and they are not labeled.
"""

import json
from pathlib import Path

import numpy as np

from kitsjax.data.cache import annotations_stamp, case_stamp
from kitsjax.data.case import Case
from kitsjax.data.instances import check_kinds, read_instances
from kitsjax.data.kits import ANNOTATIONS_NAMES
from kitsjax.data.normalization import count_hu
from kitsjax.data.preprocess import resample_hu
from kitsjax.data.preprocessed_case import CASE_RECORD, HISTOGRAM, PreprocessedCase
from kitsjax.data.stored_arrays import describe_arrays
from kitsjax.data.stored_instances import resample_instance, write_instances
from kitsjax.errors import InputError
from kitsjax.files import move_new, temporary_beside
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.resample import resample_nearest, resampled_spacing
from kitsjax.image.volume import check_same_grid
from kitsjax.labels import KITS, LabelScheme
from kitsjax.settings import PreprocessSettings


def preprocess_case(
    case: Case,
    folder: Path,
    settings: PreprocessSettings,
    scheme: LabelScheme = KITS,
    stamp: str | None = None,
) -> bool:
    """Write the preprocessed case into `folder`; if another process did so meanwhile, that stays.

    Args:
        case: the case.
        folder: folder to write.
        settings: how to preprocess it.
        scheme: its labels.
        stamp: `case_stamp` by which the folder is named; None: that of the files as they are now.

    Returns:
        Whether it is this call's folder that is there.

    Raises:
        InputError: A file is bad, the label has values beyond the scheme, image and label lie on
            different grids, a file has changed since the stamp, or the folder cannot be written.
    """
    stamp = stamp or case_stamp(case)
    volume, label = read_volume(case.image), read_label(case.label, scheme.values)
    check_same_grid(volume.grid, label.grid)
    image = resample_hu(volume, settings)
    resampled = resample_nearest(label.array, image.shape)
    description = {
        "case_id": case.case_id,
        "shape": image.shape,
        # The shape is a whole number of voxels, so their edges are a little off the target.
        "spacing_mm": resampled_spacing(volume.shape, volume.spacing_mm, image.shape),
        "native_shape": volume.shape,
        "native_spacing_mm": [float(s) for s in volume.spacing_mm],
        "voxels": {str(v): int((resampled == v).sum()) for v in scheme.foreground},
    }
    with temporary_beside(folder) as temporary:
        temporary.mkdir()
        np.save(temporary / "image.npy", image)
        np.save(temporary / HISTOGRAM, _count_voxels(image, resampled, scheme))
        np.save(temporary / "label.npy", resampled)
        for value in scheme.foreground:
            positions = foreground_positions(
                resampled, value, settings.foreground_voxels, case.seed
            )
            np.save(temporary / f"foreground_{value}.npy", positions)
        _require_unchanged(case, stamp, case_stamp(case))
        record = description | describe_arrays(temporary)
        (temporary / CASE_RECORD).write_text(json.dumps(record, indent=1))
        return move_new(temporary, folder)


def annotate_case(case: Case, folder: Path, stamp: str | None = None) -> bool:
    """Write a case's instances into a folder of its preprocessed case.

    If another process did so meanwhile, that folder stays.

    Args:
        case: the case.
        folder: folder to write.
        stamp: `annotations_stamp` by which the folder is named; None: that of the files as they
            are now.

    Returns:
        Whether it is this call's folder that is there.

    Raises:
        InputError: The case has no individual annotations, or none of a class that its label has;
            one of them is bad or lies on another grid than the image; a file has changed since the
            stamp; or the folder cannot be written.
    """
    annotations, stamp = require_annotations(case), stamp or annotations_stamp(case)
    native, stored = read_grid(case.image), PreprocessedCase(folder.parent)
    instances = read_instances(annotations, native)
    check_kinds(annotations, instances, (KITS.names[value] for value in stored.present), case.label)
    _require_unchanged(case, stamp, annotations_stamp(case))
    return write_instances(
        folder, [resample_instance(one, native.shape, stored.shape) for one in instances]
    )


def require_annotations(case: Case) -> Path:
    """Return the folder of a case's individual annotations.

    Raises:
        InputError: The case has none.
    """
    if case.annotations is None:
        raise InputError(
            f"{case.place}: has no individual annotations ({ANNOTATIONS_NAMES[0]}); add KiTS21's, "
            "or train on its one label with data.label_source=majority"
        )
    return case.annotations


def _require_unchanged(case: Case, before: str, after: str) -> None:
    """Refuse a case whose files another program wrote while they were read."""
    if after != before:
        raise InputError(
            f"{case.place}: its files changed while they were read; run again when they are whole"
        )


def _count_voxels(image: np.ndarray, label: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Count the HU of all voxels and of the labeled ones: the rows of the file `HISTOGRAM`."""
    # The value of voxels that nobody annotated is the highest.
    whole, labeled = count_hu(image), image[(label > 0) & (label < len(scheme.names))]
    foreground = np.bincount(labeled.astype(np.int64) - whole.hu[0], minlength=len(whole.hu))
    return np.stack([whole.hu, whole.counts, foreground])


def foreground_positions(label: np.ndarray, value: int, least: int, seed: int) -> np.ndarray:
    """Draw random voxel positions of a label value, without repeats, as nnU-Net stores them.

    Args:
        label: label map (z, y, x).
        value: the label value to look for.
        least: number of positions to keep; 1% of the value's voxels are kept if that is more.
        seed: seed of the draw, together with the value.

    Returns:
        (n, 3) int32 positions in the order of the volume; all of them if there are no more than are
        to be kept.
    """
    flat = np.flatnonzero(label == value)
    keep = max(least, flat.size // 100)
    if flat.size > keep:
        flat = np.sort(np.random.default_rng((seed, value)).choice(flat, keep, replace=False))
    return np.stack(np.unravel_index(flat, label.shape), axis=-1).astype(np.int32)
