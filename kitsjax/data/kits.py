"""Data folders in the layout of KiTS21, KiTS23 and KiTS19: find and check their cases."""

import re
from pathlib import Path

from kitsjax.data.case import Case
from kitsjax.data.require_files import Names, require_files
from kitsjax.errors import InputError
from kitsjax.image.file_format import list_folder, list_nifti, list_spellings
from kitsjax.input_file import advise_reading, check_is_folder, reading

IMAGE_STEM = "imaging"
LABEL_STEMS = ("aggregated_MAJ_seg", "segmentation")
"""File names of image and label without .nii.gz or .nii, whose case is ignored. The label is
KiTS21's majority vote, or the single label of KiTS23 and KiTS19; the first that exists is used."""

IMAGE_NAME = f"{IMAGE_STEM}.nii.gz"
LABEL_NAMES = tuple(f"{stem}.nii.gz" for stem in LABEL_STEMS)
"""These names as KiTS has them, for messages."""

ANNOTATIONS_NAMES = ("segmentations", "instances")
"""The folder of individual annotations in KiTS21 and in KiTS23, which `kitsjax.data.instances`
reads. The first that holds any is used."""

_LABEL = f"label ({' or '.join(LABEL_NAMES)})"

NAMES = Names(
    IMAGE_NAME,
    _LABEL,
    f"{_LABEL} or annotations ({' or '.join(ANNOTATIONS_NAMES)})",
    " (bin/download.py gets them)",
)

_CASE = re.compile(r"case_\d{5}", re.IGNORECASE)


def find_cases(root: str | Path, images: bool = True) -> list[Case]:
    """Find the cases of a KiTS folder, sorted by id.

    Args:
        root: folder that contains the case_XXXXX folders.
        images: True requires an image and a label for every case, as training does, and a note
            names what belongs to no case. False requires only one case with a label or
            annotations, as scoring does; a case whose folder cannot be read, or that has two
            folders, images or labels, says so in its `problem`.

    Raises:
        InputError: The folder is missing, cannot be read or contains no case, or a required file is
            missing, or two folders, images or labels are of one case; all such cases are named.
    """
    root = Path(root)
    return require_files(root, list_cases(root), images, NAMES)


def list_cases(root: Path) -> list[Case]:
    """List the cases of a KiTS folder by id; any of their files may be missing.

    Raises:
        InputError: The folder is missing, cannot be read or contains no case.
    """
    advice = "give the folder that holds case_00000 and so on"
    check_is_folder(root, "no such data folder", advice)
    with reading(root):
        folders = [p for p in list_folder(root) if is_case_name(p.name) and p.is_dir()]
    if not folders:
        raise InputError(f"{root}: holds no case_XXXXX folder; {advice}")
    # Of several folders of one case, the one in lower case stands for it.
    folders.sort(key=lambda folder: (folder.name.lower(), not folder.name.islower()))
    return [_find_files(folder) for folder in folders]


def is_case_name(name: str) -> bool:
    """Tell whether a folder is named like a case, ignoring case."""
    return _CASE.fullmatch(name) is not None


def list_annotation_files(folder: Path) -> list[Path]:
    """List the NIfTI files of a folder of annotations by name, without hidden ones."""
    return list_nifti(folder)


def _find_files(folder: Path) -> Case:
    case_id, image, label = folder.name.lower(), folder / IMAGE_NAME, folder / LABEL_NAMES[0]
    try:
        images = list_spellings(folder, IMAGE_STEM)
        labels = next(filter(None, (list_spellings(folder, stem) for stem in LABEL_STEMS)), [])
        folders = {path.name.lower(): path for path in list_folder(folder)}
        annotations = [folders[name] for name in ANNOTATIONS_NAMES if name in folders]
        return Case(
            case_id,
            next(iter(images), image),
            next(iter(labels), label),
            next(filter(list_annotation_files, annotations), None),
            _describe_several(images, labels),
        )
    except OSError as error:
        place = error.filename or folder
        problem = f"{place}: cannot read ({error.strerror}); {advise_reading(error, 'restore it')}"
        return Case(case_id, image, label, problem=problem)


def _describe_several(*kinds: list[Path]) -> str:
    """Say which files are several of a kind, where a case has one; empty if none are."""
    return "; ".join(
        f"{found[0]} and {', '.join(path.name for path in found[1:])} are of one case; keep one of "
        "them"
        for found in kinds
        if len(found) > 1
    )
