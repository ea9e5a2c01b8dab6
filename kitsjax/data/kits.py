"""Data folders in the layout of KiTS21, KiTS23 and KiTS19: find and check their cases."""

import re
from dataclasses import dataclass
from pathlib import Path

from kitsjax.errors import InputError

IMAGE_NAME = "imaging.nii.gz"
LABEL_NAMES = ("aggregated_MAJ_seg.nii.gz", "segmentation.nii.gz")
"""File names of the training label: KiTS21's majority vote, or the single label of KiTS23 and
KiTS19. The first one that exists is used."""

ANNOTATIONS_NAME = "segmentations"
"""KiTS21's folder of individual annotations, which `kitsjax.data.instances` reads."""

_CASE = re.compile(r"case_\d{5}")


@dataclass(frozen=True)
class Case:
    """The files of one case, which is one patient's scan.

    Attributes:
        case_id: folder name, `case_00000`.
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
        root: folder that contains the case_XXXXX folders; everything else in it is ignored.
        images: True requires an image and a label for every case, as training does. False requires
            only one case with a label or annotations, as scoring does.

    Raises:
        InputError: The folder is missing, cannot be read or contains no case, or a required file is
            missing.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such data folder"
        raise InputError(f"{root}: {what}; give the folder that holds case_00000 and so on")
    try:
        folders = sorted(p for p in root.iterdir() if p.is_dir() and _CASE.fullmatch(p.name))
        cases = [_find_files(folder) for folder in folders]
    except PermissionError as error:
        raise InputError(f"{error.filename}: {error.strerror}; make it readable") from None
    if not cases:
        raise InputError(
            f"{root}: holds no case_XXXXX folder; give the folder that holds case_00000 and so on"
        )
    if images:
        for case in cases:
            _check_complete(case)
        return cases
    if not any(case.has_truth for case in cases):
        raise InputError(
            f"{root}: no case has a label ({' or '.join(LABEL_NAMES)}) or annotations "
            f"({ANNOTATIONS_NAME}); add them"
        )
    return cases


def list_annotation_files(folder: Path) -> list[Path]:
    """List the .nii.gz files of a `segmentations` folder by name, without hidden ones."""
    return sorted(folder.glob("[!.]*.nii.gz"))


def _find_files(folder: Path) -> Case:
    labels = [folder / name for name in LABEL_NAMES]
    annotations = folder / ANNOTATIONS_NAME
    return Case(
        folder.name,
        folder / IMAGE_NAME,
        next((label for label in labels if label.is_file()), labels[0]),
        annotations if list_annotation_files(annotations) else None,
    )


def _check_complete(case: Case) -> None:
    if not case.image.is_file():
        raise InputError(
            f"{case.folder}: has no {IMAGE_NAME}; images are a separate download: download it, or "
            "move the case out of the data folder"
        )
    if not case.label.is_file():
        raise InputError(
            f"{case.folder}: has no label ({' or '.join(LABEL_NAMES)}); add it, or move the case "
            "out of the data folder"
        )
