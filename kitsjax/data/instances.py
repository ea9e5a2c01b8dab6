"""Instances: the kidneys, tumors and cysts of a case, each with a mask by every annotator.

KiTS21 stores one file for each annotation in a case's `segmentations` folder. An instance holds all
annotations of one structure, cropped to the box that they share.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsjax.data.kits import list_annotation_files
from kitsjax.errors import InputError, name_first
from kitsjax.image.file_format import nifti_stem, note_passed_over
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import Grid, check_same_grid
from kitsjax.labels import KITS
from kitsjax.types import Box

_MOST_NAMED = 5
"""Number of files that a line names."""

_STEM = re.compile(
    r"(kidney|tumor|cyst)_instance-([1-9][0-9]*)_annotation-([1-9][0-9]*)", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class Instance:
    """One kidney, tumor or cyst with a mask by each of its annotators.

    Attributes:
        kind: "kidney", "tumor" or "cyst".
        number: from 1, as in the names of its files.
        region: box of the volume that contains every mask. `read_instances` gives the smallest
            one, which has no voxels if all masks are empty.
        masks: (annotation, z, y, x) bool, cropped to the region; at least one annotation.
        annotations: number of each annotation, as in the names of its files; () means 1, 2, ...
    """

    kind: str
    number: int
    region: Box
    masks: np.ndarray
    annotations: tuple[int, ...] = ()

    @property
    def annotation_numbers(self) -> tuple[int, ...]:
        """The number of each annotation, also where `annotations` is ()."""
        return self.annotations or tuple(range(1, len(self.masks) + 1))


def count_instances(folder: str | Path) -> dict[str, int]:
    """Count a case's kidneys, tumors and cysts by the names of their files.

    Args:
        folder: the `segmentations` folder of a case.

    Raises:
        InputError: The folder is missing, or a file does not have the name of an annotation.
    """
    kinds = [kind for kind, _ in _group_files(Path(folder))]
    return {name: kinds.count(name) for name in KITS.names[1:]}


def annotator_numbers(folder: Path) -> set[int]:
    """Return the numbers of the annotators that a `segmentations` folder has files of."""
    names = map(_parse_name, list_annotation_files(folder))
    return {int(name[3]) for name in names if name}


def read_instances(folder: str | Path, grid: Grid) -> list[Instance]:
    """Read a case's instances, in the order kidney, tumor, cyst, then by number.

    Files are read one at a time and only the crops are kept, so memory holds one whole mask.

    Args:
        folder: the `segmentations` folder of a case. A note names what is not NIfTI there.
        grid: the case's grid, which every annotation must share.

    Raises:
        InputError: The folder is missing, or a file does not have the name of an annotation, cannot
            be read, lies on another grid, or holds values other than 0 and 1.
    """
    note_passed_over(Path(folder), list_annotation_files(Path(folder)))
    return [
        _read_instance(kind, number, files, grid)
        for (kind, number), files in _group_files(Path(folder)).items()
    ]


def check_kinds(
    folder: Path, instances: Sequence[Instance], kinds: Iterable[str], label: Path
) -> None:
    """Refuse annotations that lack a kind which the label of their case has: files are missing.

    Args:
        folder: the `segmentations` folder of a case, for the message.
        instances: the instances that it holds.
        kinds: kinds of which the label has a voxel.
        label: file of the label, for the message.

    Raises:
        InputError: There is no instance of one of the kinds.
    """
    found = {instance.kind for instance in instances}
    if lost := [kind for kind in kinds if kind not in found]:
        raise InputError(
            f"{folder}: holds no {' and no '.join(lost)}, though {label.name} does; get its files "
            "again"
        )


def _parse_name(path: Path) -> re.Match[str] | None:
    return _STEM.fullmatch(nifti_stem(path.name) or "")


def _group_files(folder: Path) -> dict[tuple[str, int], dict[int, Path]]:
    """Return {(kind, instance number): {annotation number: file}}, all in order."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of annotations; copy it from KiTS21")
    found, wrong = [], []
    for path in list_annotation_files(folder):
        name = _parse_name(path)
        if name is None:
            wrong.append(path.name)
            continue
        kind, instance, annotation = name.groups()
        found.append((KITS.names.index(kind.lower()), int(instance), int(annotation), path))
    if wrong:
        names = name_first([str(folder / wrong[0]), *wrong[1:]], _MOST_NAMED)
        raise InputError(
            f"{names}: not named like kidney_instance-1_annotation-1.nii.gz (or "
            "tumor_..., cyst_...); rename what is an annotation, and move the rest out"
        )
    files: dict[tuple[str, int], dict[int, Path]] = {}
    for label, number, annotation, path in sorted(found):
        of_instance = files.setdefault((KITS.names[label], number), {})
        if annotation in of_instance:
            raise InputError(
                f"{of_instance[annotation]} and {path.name} are of one annotation; keep one of them"
            )
        of_instance[annotation] = path
    return files


def _read_instance(kind: str, number: int, files: dict[int, Path], grid: Grid) -> Instance:
    crops = [_read_cropped(path, grid) for path in files.values()]
    # The smallest box that contains every crop. An empty annotation has no place, so it must not
    # widen the box.
    drawn = [(corner, crop) for corner, crop in crops if crop.size]
    low = np.min([corner for corner, _ in drawn] or np.zeros((1, 3), int), axis=0)
    high = np.max([corner + crop.shape for corner, crop in drawn] or low[None], axis=0)
    # All masks within that box.
    masks = np.zeros((len(files), *(high - low)), bool)
    for mask, (corner, crop) in zip(masks, crops, strict=True):
        mask[_box(corner - low, crop.shape)] = crop
    return Instance(kind, number, _box(low, high - low), masks, tuple(files))


def _read_cropped(path: Path, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Read an annotation: the first corner (z, y, x) of its box, and its bool mask in that box.

    An annotation without voxels has the corner 0 and a mask of shape (0, 0, 0).
    """
    volume = read_label(path, (0, 1))
    check_same_grid(volume.grid, grid)
    # Cropping along z first leaves few voxels to search along y and x.
    z = _span(volume.array, 0)
    inside = volume.array[z]
    y, x = _span(inside, 1), _span(inside, 2)
    return np.array([z.start, y.start, x.start]), inside[:, y, x].astype(bool)


def _span(mask: np.ndarray, axis: int) -> slice:
    """Return the slice from the first to the last voxel of a mask along an axis."""
    (found,) = np.nonzero(np.any(mask, axis=tuple({0, 1, 2} - {axis})))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _box(corner: Sequence[int] | np.ndarray, shape: Sequence[int] | np.ndarray) -> Box:
    z, y, x = (slice(int(a), int(a + n)) for a, n in zip(corner, shape, strict=True))
    return z, y, x
