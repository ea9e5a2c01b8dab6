"""What a data set must have before work on it begins, and folders that are no part of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kitsjax.data.case import Case
from kitsjax.errors import InputError
from kitsjax.image.file_format import list_folder, note_passed_over
from kitsjax.input_file import describe_absence

TEST_FOLDERS = ("imagesTs", "labelsTs")
"""nnU-Net's and the Decathlon's folders of images to predict, and of their labels."""


class Names(NamedTuple):
    """What messages call the files of a layout.

    Attributes:
        image, label: a missing image, and a missing label.
        truth: anything to score against.
        source: where the files come from, in parentheses and with a space before; may be empty.
    """

    image: str = "image"
    label: str = "label"
    truth: str = "label"
    source: str = ""


PLAIN_NAMES = Names()
"""Names of files that carry their case's."""


def require_files(
    root: Path, cases: Sequence[Case], complete: bool, names: Names = PLAIN_NAMES
) -> None:
    """Refuse a data set that lacks what training or scoring needs.

    Args:
        root: the folder of the data set.
        cases: its cases, by id.
        complete: True: every case must have an image and a label; a note names the folders that
            are no cases. False: one case must have a label or annotations.
        names: what messages call the files.

    Raises:
        InputError: Something is missing, or two cases have one id; all incomplete cases are named.
    """
    _check_unique(cases)
    if complete:
        _check_complete(root, cases, names)
        note_other_folders(root, cases)
    elif not any(case.has_truth for case in cases):
        raise InputError(f"{root}: no case has a {names.truth}; add them")


def note_other_folders(root: str | Path, cases: Sequence[Case]) -> None:
    """Log a note that names the folders of a data set without files of a case, which may be meant.

    A data set's own files, such as kits.json, are not named, nor are nnU-Net's test folders.
    """
    root = Path(root)
    own = [path for path in list_folder(root) if path.is_file() or path.name in TEST_FOLDERS]
    used = {path.relative_to(root).parts[0] for case in cases for path in (case.image, case.label)}
    note_passed_over(root, [*(root / name for name in used), *own])


def _check_unique(cases: Sequence[Case]) -> None:
    """Refuse two cases whose ids are the same, or differ by case only.

    Raises:
        InputError: There are two; the message names the folder or image of each.
    """
    found: dict[str, Case] = {}
    for case in cases:
        other = found.setdefault(case.case_id.lower(), case)
        if other is not case:
            one, two = (each.image if each.dataset else each.folder for each in (other, case))
            raise InputError(f"{one} and {two.name} are of one case; keep one")


def _check_complete(root: Path, cases: Sequence[Case], names: Names) -> None:
    """Refuse cases that cannot be read, or are without image or label, all in one line."""
    if unreadable := [case.problem for case in cases if case.problem]:
        raise InputError("; ".join(unreadable))
    parts: dict[str, list[str]] = {}
    for file, what in (("image", names.image), ("label", names.label)):
        for case in cases:
            path: Path = getattr(case, file)
            if not path.is_file():
                problem = describe_absence(path)
                found = f"{path.name} {problem}" if problem else f"no {what}"
                parts.setdefault(found, []).append(case.case_id)
    if parts:
        named = [f"{found} in {', '.join(ids)}" for found, ids in parts.items()]
        raise InputError(
            f"{root}: {'; '.join(named)}; add the files{names.source}, or move the cases out of "
            "the data folder"
        )
