"""Make one preprocessed case from the files of a case.

A preprocessed case is a folder:

    image.npy         (z, y, x) float16 or float32, normalized
    label.npy         (z, y, x) uint8, the majority label
    foreground_1.npy  (n, 3) int32 positions of some voxels of label value 1; likewise 2 and 3
    case.json         what it was made from, its shapes and spacings, and its number of voxels
    annotations/      if asked for: its instances (`kitsjax.data.stored_instances`)

The foreground positions are those of the majority label, whatever label is trained on.
"""

import json
from pathlib import Path

import numpy as np

from kitsjax.data.cache import annotations_stamp, case_stamp
from kitsjax.data.instances import read_instances
from kitsjax.data.kits import ANNOTATIONS_NAME, Case
from kitsjax.data.preprocess import preprocess
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.data.stored_instances import INSTANCES_FOLDER, resample_instance, write_instances
from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.image.read_nifti import read_grid, read_label, read_volume
from kitsjax.image.resample import resample_nearest, resampled_spacing
from kitsjax.image.volume import check_same_grid
from kitsjax.labels import FOREGROUND
from kitsjax.settings import PreprocessSettings


def preprocess_case(case: Case, folder: Path, settings: PreprocessSettings) -> None:
    """Write the preprocessed case into `folder`, atomically; it replaces an older one.

    Raises:
        InputError: A file is bad, image and label lie on different grids, or the folder cannot be
            written.
    """
    volume, label = read_volume(case.image), read_label(case.label)
    check_same_grid(volume.grid, label.grid)
    image = preprocess(volume, settings)
    resampled = resample_nearest(label.array, image.shape)
    description = {
        "case_id": case.case_id,
        "inputs": case_stamp(case),
        "shape": image.shape,
        # The shape is a whole number of voxels, so their edges are a little off the target.
        "spacing_mm": resampled_spacing(volume.shape, volume.spacing_mm, image.shape),
        "native_shape": volume.shape,
        "native_spacing_mm": [float(s) for s in volume.spacing_mm],
        "voxels": {str(v): int((resampled == v).sum()) for v in FOREGROUND},
    }
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        np.save(temporary / "image.npy", image)
        np.save(temporary / "label.npy", resampled)
        for value in FOREGROUND:
            positions = foreground_positions(
                resampled, value, settings.foreground_voxels, case.number
            )
            np.save(temporary / f"foreground_{value}.npy", positions)
        (temporary / "case.json").write_text(json.dumps(description, indent=1))


def annotate_case(case: Case, folder: Path) -> None:
    """Add a case's instances to its preprocessed case in `folder`, atomically.

    Raises:
        InputError: The case has no individual annotations, one of them is bad or lies on another
            grid than the image, or the folder cannot be written.
    """
    annotations = require_annotations(case)
    native, shape = read_grid(case.image), PreprocessedCase(folder).shape
    instances = [
        resample_instance(instance, native.shape, shape)
        for instance in read_instances(annotations, native)
    ]
    write_instances(folder / INSTANCES_FOLDER, instances, annotations_stamp(case))


def require_annotations(case: Case) -> Path:
    """Return the folder of a case's individual annotations.

    Raises:
        InputError: The case has none.
    """
    if case.annotations is None:
        raise InputError(
            f"{case.folder}: has no individual annotations ({ANNOTATIONS_NAME}); add KiTS21's, or "
            "train on its one label with data.label_source=majority"
        )
    return case.annotations


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
