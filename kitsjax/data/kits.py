"""Folders in the layout of KiTS21, KiTS23 and KiTS19: cases, checks, split."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsjax.errors import InputError
from kitsjax.files import write_text

IMAGE_NAME = "imaging.nii.gz"
LABEL_NAMES = ("aggregated_MAJ_seg.nii.gz", "segmentation.nii.gz")
"""The training label (D2): KiTS21's majority vote, or the single label of KiTS23 and KiTS19."""

ANNOTATIONS_NAME = "segmentations"
"""KiTS21's folder of individual annotations, as `kitsjax.data.annotations` reads it."""

_CASE = re.compile(r"case_\d{5}")


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        case_id: folder name, `case_00000`.
        image: CT in HU; `find_cases` says when the file may be missing.
        label: mask with the values of `kitsjax.labels`; likewise.
        annotations: folder of the individual annotations; None for KiTS23 and KiTS19.
    """

    case_id: str
    image: Path
    label: Path
    annotations: Path | None = None

    @property
    def number(self) -> int:
        """21 of `case_00021`."""
        return int(self.case_id.removeprefix("case_"))

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to score against (KiTS19's cases 210 to 299 have nothing)."""
        return self.annotations is not None or self.label.is_file()

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.image.parent


@dataclass(frozen=True)
class Split:
    """Case ids that are trained on and case ids held out, each sorted."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def find_cases(root: str | Path, images: bool = True) -> list[Case]:
    """The cases of a KiTS folder, sorted by id.

    Args:
        root: folder of case_XXXXX folders; others are passed over.
        images: whether every case must have its image and label, as in training. If not, as in
            scoring, only one case must have a truth.

    Raises:
        InputError: no such folder, one that cannot be read, no case in it, or a case without image
            or label.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such data folder"
        raise InputError(f"{root}: {what}; give the folder that holds case_00000 and so on")
    try:
        folders = sorted(p for p in root.iterdir() if p.is_dir() and _CASE.fullmatch(p.name))
        cases = [_case(folder) for folder in folders]
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


def _case(folder: Path) -> Case:
    labels = [folder / name for name in LABEL_NAMES]
    annotations = folder / ANNOTATIONS_NAME
    return Case(
        folder.name,
        folder / IMAGE_NAME,
        next((label for label in labels if label.is_file()), labels[0]),
        annotations if any(annotations.glob("[!.]*.nii.gz")) else None,
    )


def _check_complete(case: Case) -> None:
    if not case.image.is_file():
        raise InputError(
            f"{case.folder}: has no {IMAGE_NAME}; KiTS images are downloaded apart from the "
            "labels, or move the case out of the data folder"
        )
    if not case.label.is_file():
        raise InputError(
            f"{case.folder}: has no label ({' or '.join(LABEL_NAMES)}); add it, or move the case "
            "out of the data folder"
        )


def split_cases(case_ids: Sequence[str], held_out: int, seed: int) -> Split:
    """Hold out `held_out` cases at random without replacement (D1), the same for the same seed.

    Raises:
        InputError: no case would be left to train on.
    """
    ids = sorted(case_ids)
    if held_out >= len(ids):
        raise InputError(
            f"data.held_out = {held_out} leaves no case to train on: the data set has {len(ids)}"
        )
    chosen = np.random.default_rng(seed).permutation(len(ids))[:held_out]
    held = {ids[i] for i in chosen}
    return Split(tuple(i for i in ids if i not in held), tuple(sorted(held)))


def read_split(path: str | Path, case_ids: Sequence[str]) -> Split:
    """Read a split file and check it against the cases at hand.

    Raises:
        InputError: unreadable, of another form, a case unknown or on both sides, nothing to train
            on.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
        split = Split(tuple(sorted(tree["train"])), tuple(sorted(tree["held_out"])))
        well_formed = all(isinstance(i, str) for i in (*split.train, *split.held_out))
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the split ({error.strerror}); give a run's split.json"
        ) from None
    except (ValueError, KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise InputError(
            f'{path}: not a split; write {{"train": ["case_00000", ...], "held_out": [...]}}'
        )
    both = set(split.train) & set(split.held_out)
    unknown = (set(split.train) | set(split.held_out)) - set(case_ids)
    if both or unknown or not split.train:
        what = (
            f"{min(both)} is on both sides" if both
            else f"{min(unknown)} is not in the data folder" if unknown
            else "no case to train on"
        )  # fmt: skip
        raise InputError(f"{path}: {what}; correct the split")
    return split


def write_split(path: str | Path, split: Split) -> None:
    """Write a split file that `read_split` reads."""
    tree = {"train": list(split.train), "held_out": list(split.held_out)}
    write_text(path, json.dumps(tree, indent=1) + "\n")
