"""KiTS21's individual annotations: instances, the official annotation samples, merged labels (D3).

A case's `segmentations/` holds a mask of each kidney, tumor and cyst by each of its annotators.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from kitsjax.errors import InputError
from kitsjax.files import atomic_write
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import Grid, check_same_grid
from kitsjax.image.write_nifti import write_label
from kitsjax.labels import CLASSES, FOREGROUND, PAINT_ORDER
from kitsjax.types import Box

GROUPS = 5
"""Groups of annotation samples that are drawn of each case (KiTS21 starter code)."""

_FILE_NAME = re.compile(
    r"(kidney|tumor|cyst)_instance-([1-9][0-9]*)_annotation-([1-9][0-9]*)\.nii\.gz"
)


@dataclass(frozen=True, eq=False)
class Instance:
    """A kidney, tumor or cyst, and what each annotator drew of it.

    Attributes:
        kind: "kidney", "tumor" or "cyst".
        number: from 1, as in the names of its files.
        region: a box of the volume that holds every annotation; as read, the smallest, and of
            no voxel if all are empty.
        masks: (annotation, z, y, x) bool, within the region; at least one annotation.
        annotations: numbers of the annotations, as in the names of their files; () means 1, 2, ...
    """

    kind: str
    number: int
    region: Box
    masks: np.ndarray
    annotations: tuple[int, ...] = ()


class Sample(NamedTuple):
    """An official annotation sample: one annotation of every instance, painted into a label map.

    Attributes:
        name: its file, `group_0/kidney_i1a2_i2a1_cyst_i1a1_tumor_i1a1.nii.gz`: instance 1 as
            annotation 2 has it, and so on.
        choice: of each instance, the index (from 0) of the annotation among its masks.
    """

    name: str
    choice: tuple[int, ...]


def count_instances(folder: str | Path) -> dict[str, int]:
    """How many kidneys, tumors and cysts have annotations, by file name; raises as below."""
    kinds = [kind for kind, _ in _list_files(Path(folder))]
    return {CLASSES[label]: kinds.count(CLASSES[label]) for label in FOREGROUND}


def read_instances(folder: str | Path, grid: Grid) -> list[Instance]:
    """The instances of a case, in the order kidney, tumor, cyst, then by number.

    One file is in memory at a time; what is kept is cropped.

    Args:
        folder: a case's `segmentations`.
        grid: the case's grid, which every annotation must share.

    Raises:
        InputError: no such folder; a file whose name is not that of an annotation (hidden files
            and those of other types are passed over), that cannot be read, is on another grid or
            holds values other than 0 and 1.
    """
    return [
        _read_instance(kind, number, files, grid)
        for (kind, number), files in _list_files(Path(folder)).items()
    ]


def draw_samples(case_number: int, instances: Sequence[Instance]) -> list[Sample]:
    """The official annotation samples of a case, name by name as KiTS21's starter code draws them.

    In each of five groups every instance gets a random offset, and the group's sample i takes its
    annotation (offset + i) mod (number of its annotations). A group has as many samples as the
    least annotated instance has annotations, so there none is seen twice.

    Args:
        case_number: 21 of case_00021; seeds the draw.
        instances: of the case, in the order of `read_instances`; none of them gives no samples.
    """
    counts = [len(instance.masks) for instance in instances]
    rng = np.random.RandomState(case_number)
    samples = []
    for group in range(GROUPS):
        offsets = [int(rng.randint(0, count)) for count in counts]
        for i in range(min(counts, default=0)):
            pairs = zip(offsets, counts, strict=True)
            choice = tuple((offset + i) % count for offset, count in pairs)
            samples.append(Sample(f"group_{group}/{_sample_name(instances, choice)}", choice))
    return samples


def paint_sample(
    instances: Sequence[Instance], choice: Sequence[int], shape: tuple[int, int, int]
) -> np.ndarray:
    """The label map (z, y, x), uint8, of a choice of annotations: a `Sample`'s."""
    pairs = zip(instances, choice, strict=True)
    return _paint(instances, [instance.masks[index] for instance, index in pairs], shape)


def majority_label(instances: Sequence[Instance], shape: tuple[int, int, int]) -> np.ndarray:
    """The label map of the voxels on which more than half of an instance's annotations agree.

    KiTS21's `aggregated_MAJ_seg.nii.gz`, uint8 (z, y, x); background if there are no instances.
    """
    return _merge(instances, [len(instance.masks) // 2 + 1 for instance in instances], shape)


def merge_annotations(
    instances: Sequence[Instance], shape: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """KiTS21's three merged labels: of each instance the majority, what all and what any drew."""
    return {
        "MAJ": majority_label(instances, shape),
        "AND": _merge(instances, [len(instance.masks) for instance in instances], shape),
        "OR": _merge(instances, [1 for _ in instances], shape),
    }


def write_samples(
    folder: str | Path,
    instances: Sequence[Instance],
    samples: Sequence[Sample],
    grid: Grid,
) -> None:
    """Write samples as files, `folder`/group_0/..., each group's folder whole or not at all.

    A group's folder that is there already is replaced.

    Args:
        grid: the case's geometry, read from a file, whose layout the samples get.

    Raises:
        InputError: the folder cannot be written.
    """
    assert grid.header is not None
    for group, members in groupby(samples, lambda sample: PurePosixPath(sample.name).parent):
        with atomic_write(Path(folder) / group) as beside:
            for name, choice in members:
                painted = paint_sample(instances, choice, grid.shape)
                write_label(beside / PurePosixPath(name).name, painted, grid.header)


def _list_files(folder: Path) -> dict[tuple[str, int], dict[int, Path]]:
    """{(kind, instance): {annotation: file}}, each in order."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of annotations; add it, as KiTS21 has it")
    found = []
    for path in sorted(folder.glob("[!.]*.nii.gz")):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:
            raise InputError(
                f"{path}: not named like kidney_instance-1_annotation-1.nii.gz, of a kidney, tumor "
                "or cyst; rename it, or move it out of the folder"
            )
        kind, instance, annotation = name.groups()
        found.append((CLASSES.index(kind), int(instance), int(annotation), path))
    files: dict[tuple[str, int], dict[int, Path]] = {}
    for label, number, annotator, path in sorted(found):
        files.setdefault((CLASSES[label], number), {})[annotator] = path
    return files


def _read_instance(kind: str, number: int, files: dict[int, Path], grid: Grid) -> Instance:
    crops = [_read_cropped(path, grid) for path in files.values()]
    # An empty annotation has no place, so it must not widen the region.
    drawn = [(corner, crop) for corner, crop in crops if crop.size]
    low = np.min([corner for corner, _ in drawn] or np.zeros((1, 3), int), axis=0)
    high = np.max([corner + crop.shape for corner, crop in drawn] or low[None], axis=0)
    masks = np.zeros((len(files), *(high - low)), bool)
    for mask, (corner, crop) in zip(masks, crops, strict=True):
        mask[_box(corner - low, crop.shape)] = crop
    return Instance(kind, number, _box(low, high - low), masks, tuple(files))


def _read_cropped(path: Path, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The first corner (z, y, x) of an annotation's box, and its bool mask there.

    An annotation without voxels has the corner 0 and a mask of shape (0, 0, 0).
    """
    volume = read_label(path, (0, 1))
    check_same_grid(volume.grid, grid)
    # Slices first: what is left is small.
    z = _extent(volume.array, 0)
    inside = volume.array[z]
    y, x = _extent(inside, 1), _extent(inside, 2)
    return np.array([z.start, y.start, x.start]), inside[:, y, x].astype(bool)


def _extent(mask: np.ndarray, axis: int) -> slice:
    """From the first to the last voxel of a mask along an axis."""
    (found,) = np.nonzero(np.any(mask, axis=tuple({0, 1, 2} - {axis})))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _box(corner: Sequence[int] | np.ndarray, shape: Sequence[int] | np.ndarray) -> Box:
    z, y, x = (slice(int(a), int(a + n)) for a, n in zip(corner, shape, strict=True))
    return z, y, x


def _sample_name(instances: Sequence[Instance], choice: Sequence[int]) -> str:
    """A sample's file name: its regions in the order of painting, also those without instances."""
    parts = []
    for label in PAINT_ORDER:
        parts.append(CLASSES[label])
        for instance, index in zip(instances, choice, strict=True):
            if instance.kind == CLASSES[label]:
                annotation = instance.annotations[index] if instance.annotations else index + 1
                parts.append(f"i{instance.number}a{annotation}")
    return "_".join(parts) + ".nii.gz"


def _merge(
    instances: Sequence[Instance], least: Sequence[int], shape: tuple[int, int, int]
) -> np.ndarray:
    """The label map of the voxels that at least so many annotations of an instance hold."""
    pairs = zip(instances, least, strict=True)
    return _paint(instances, [instance.masks.sum(0) >= count for instance, count in pairs], shape)


def _paint(
    instances: Sequence[Instance], masks: Sequence[np.ndarray], shape: tuple[int, int, int]
) -> np.ndarray:
    """The label map of a mask of each instance, within its region."""
    painted = np.zeros(shape, np.uint8)
    for label in PAINT_ORDER:
        for instance, mask in zip(instances, masks, strict=True):
            if instance.kind == CLASSES[label]:
                painted[instance.region][mask] = label
    return painted
