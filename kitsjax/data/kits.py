"""Data folders in the layout of KiTS21, KiTS23 and KiTS19: find and check their cases."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kitsjax.errors import InputError
from kitsjax.image.file_format import find_nifti, list_folder, list_nifti, note_passed_over

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
    """

    case_id: str
    image: Path
    label: Path
    annotations: Path | None = None

    @property
    def number(self) -> int:
        """The number in the case's id: 21 for `case_00021`."""
        return int(self.case_id.removeprefix("case_"))

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to score against (KiTS19's cases 210 to 299 have nothing)."""
        return self.annotations is not None or self.label.is_file()

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
            annotations, as scoring does.

    Raises:
        InputError: The folder is missing, cannot be read or contains no case, two folders are of
            one case, or a required file is missing; all incomplete cases are named.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such data folder"
        raise InputError(f"{root}: {what}; give the folder that holds case_00000 and so on")
    try:
        inside = list_folder(root)
        folders = [path for path in inside if _CASE.fullmatch(path.name) and path.is_dir()]
        cases = sorted(map(_find_files, folders), key=lambda case: case.case_id)
    except PermissionError as error:
        raise InputError(f"{error.filename}: {error.strerror}; make it readable") from None
    if not cases:
        raise InputError(
            f"{root}: holds no case_XXXXX folder; give the folder that holds case_00000 and so on"
        )
    for one, other in pairwise(cases):
        if one.case_id == other.case_id:
            raise InputError(f"{one.folder} and {other.folder.name} are of one case; keep one")
    if images:
        _check_complete(root, cases)
        # A data set's own files, such as kits.json, are no cases; a folder may be meant as one.
        note_passed_over(root, [*folders, *(path for path in inside if path.is_file())])
    elif not any(case.has_truth for case in cases):
        raise InputError(
            f"{root}: no case has a label ({' or '.join(LABEL_NAMES)}) or annotations "
            f"({ANNOTATIONS_NAME}); add them"
        )
    return cases


def list_annotation_files(folder: Path) -> list[Path]:
    """List the NIfTI files of a `segmentations` folder by name, without hidden ones."""
    return list_nifti(folder)


def _find_files(folder: Path) -> Case:
    labels = (find_nifti(folder, stem) for stem in LABEL_STEMS)
    annotations = next(
        (path for path in list_folder(folder) if path.name.lower() == ANNOTATIONS_NAME),
        folder / ANNOTATIONS_NAME,
    )
    return Case(
        folder.name.lower(),
        find_nifti(folder, IMAGE_STEM) or folder / IMAGE_NAME,
        next(filter(None, labels), folder / LABEL_NAMES[0]),
        annotations if list_annotation_files(annotations) else None,
    )


def _check_complete(root: Path, cases: Sequence[Case]) -> None:
    """Refuse cases without image or label, all in one line."""
    lacking = {
        IMAGE_NAME: [case for case in cases if not case.image.is_file()],
        f"label ({' or '.join(LABEL_NAMES)})": [case for case in cases if not case.label.is_file()],
    }
    parts = [
        f"no {what} in {', '.join(case.folder.name for case in those)}"
        for what, those in lacking.items()
        if those
    ]
    if parts:
        raise InputError(
            f"{root}: {'; '.join(parts)}; add the files (images are a separate download), or move "
            "the cases out of the data folder"
        )
