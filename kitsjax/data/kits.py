"""Data folders in the layout of KiTS21, KiTS23 and KiTS19: find and check their cases."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from kitsjax.errors import InputError
from kitsjax.image.file_format import find_nifti, list_folder, list_nifti, note_passed_over
from kitsjax.input_file import advise_reading, check_is_folder, describe_absence, reading

IMAGE_STEM = "imaging"
LABEL_STEMS = ("aggregated_MAJ_seg", "segmentation")
"""File names of image and label without .nii.gz or .nii, whose case is ignored. The label is
KiTS21's majority vote, or the single label of KiTS23 and KiTS19; the first that exists is used."""

IMAGE_NAME = f"{IMAGE_STEM}.nii.gz"
LABEL_NAMES = tuple(f"{stem}.nii.gz" for stem in LABEL_STEMS)
"""These names as KiTS has them, for messages."""

ANNOTATIONS_NAME = "segmentations"
"""KiTS21's folder of individual annotations, which `kitsjax.data.instances` reads."""

_CASE = re.compile(r"case_\d{5}", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """The files of one case, which is one patient's scan.

    Attributes:
        case_id: folder name in lower case, `case_00000`.
        image: CT in HU. The file may be missing where `find_cases` was told so.
        label: label map with the values of `kitsjax.labels`. The file may be missing likewise.
        annotations: folder of the individual annotations; None for KiTS23 and KiTS19.
        problem: why the folder cannot be read; empty if it can.
    """

    case_id: str
    image: Path
    label: Path
    annotations: Path | None = None
    problem: str = ""

    @property
    def number(self) -> int:
        """The number in the case's id: 21 for `case_00021`."""
        return int(self.case_id.removeprefix("case_"))

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to score against (KiTS19's cases 210 to 299 have nothing).

        A case whose folder cannot be read counts, so that scoring it tells.
        """
        return bool(self.problem) or self.annotations is not None or self.has_label

    @property
    def has_label(self) -> bool:
        """Whether a file has the label's name; reading it tells of a link that leads nowhere."""
        return os.path.lexists(self.label)

    @property
    def folder(self) -> Path:
        """The folder of the case's files."""
        return self.image.parent


def find_cases(root: str | Path, images: bool = True) -> list[Case]:
    """Find the cases of a KiTS folder, sorted by id.

    Args:
        root: folder that contains the case_XXXXX folders.
        images: True requires an image and a label for every case, as training does, and a note
            names the folders that are no cases. False requires only one case with a label or
            annotations, as scoring does; a case whose folder cannot be read, or that has two
            folders, says so in its `problem`.

    Raises:
        InputError: The folder is missing, cannot be read or contains no case, or a required file is
            missing, or two folders are of one case; all such cases are named.
    """
    root = Path(root)
    advice = "give the folder that holds case_00000 and so on"
    check_is_folder(root, "no such data folder", advice)
    with reading(root):
        folders = [p for p in list_folder(root) if is_case_name(p.name) and p.is_dir()]
    # Of several folders of one case, the one in lower case stands for it.
    folders.sort(key=lambda folder: (folder.name.lower(), not folder.name.islower()))
    found = map(_find_files, folders)
    cases = [_only_case(list(same)) for _, same in groupby(found, lambda case: case.case_id)]
    if not cases:
        raise InputError(f"{root}: holds no case_XXXXX folder; {advice}")
    if images:
        _check_complete(root, cases)
        note_other_folders(root, cases)
    elif not any(case.has_truth for case in cases):
        raise InputError(
            f"{root}: no case has a label ({' or '.join(LABEL_NAMES)}) or annotations "
            f"({ANNOTATIONS_NAME}); add them"
        )
    return cases


def note_other_folders(root: str | Path, cases: Sequence[Case]) -> None:
    """Log a note that names the folders of a data set that are no cases, but may be meant as one.

    A data set's own files, such as kits.json, are not named.
    """
    files = (path for path in list_folder(Path(root)) if path.is_file())
    note_passed_over(Path(root), [*(case.folder for case in cases), *files])


def is_case_name(name: str) -> bool:
    """Tell whether a folder is named like a case, ignoring case."""
    return _CASE.fullmatch(name) is not None


def list_annotation_files(folder: Path) -> list[Path]:
    """List the NIfTI files of a `segmentations` folder by name, without hidden ones."""
    return list_nifti(folder)


def _only_case(same: Sequence[Case]) -> Case:
    """Return the case of the folders of one id; of several folders one that says so."""
    first, *others = same
    if not others:
        return first
    names = ", ".join(case.folder.name for case in others)
    return replace(first, problem=f"{first.folder} and {names} are of one case; keep one")


def _find_files(folder: Path) -> Case:
    case_id, image, label = folder.name.lower(), folder / IMAGE_NAME, folder / LABEL_NAMES[0]
    try:
        labels = [find_nifti(folder, stem) for stem in LABEL_STEMS]
        annotations = next(
            (path for path in list_folder(folder) if path.name.lower() == ANNOTATIONS_NAME),
            folder / ANNOTATIONS_NAME,
        )
        return Case(
            case_id,
            find_nifti(folder, IMAGE_STEM) or image,
            next(filter(None, labels), label),
            annotations if list_annotation_files(annotations) else None,
        )
    except OSError as error:
        place = error.filename or folder
        problem = f"{place}: cannot read ({error.strerror}); {advise_reading(error, 'restore it')}"
        return Case(case_id, image, label, problem=problem)


def _check_complete(root: Path, cases: Sequence[Case]) -> None:
    """Refuse cases that cannot be read, or are without image or label, all in one line."""
    if unreadable := [case.problem for case in cases if case.problem]:
        raise InputError("; ".join(unreadable))
    parts: dict[str, list[str]] = {}
    for file, what in (("image", IMAGE_NAME), ("label", f"label ({' or '.join(LABEL_NAMES)})")):
        for case in cases:
            path: Path = getattr(case, file)
            if not path.is_file():
                problem = describe_absence(path)
                found = f"{path.name} {problem}" if problem else f"no {what}"
                parts.setdefault(found, []).append(case.folder.name)
    if parts:
        named = [f"{found} in {', '.join(folders)}" for found, folders in parts.items()]
        raise InputError(
            f"{root}: {'; '.join(named)}; add the files (bin/download.py gets them), or move "
            "the cases out of the data folder"
        )
