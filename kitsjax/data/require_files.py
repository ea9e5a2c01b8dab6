"""What a data set must have before work on it begins, and what in its folder belongs to no case."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kitsjax.data.case import Case
from kitsjax.errors import InputError
from kitsjax.image.file_format import image_stem, list_unused, note_left
from kitsjax.input_file import describe_absence

TEST_FOLDERS = ("imagesTs", "labelsTs")
"""nnU-Net's and the Decathlon's folders of images to predict, and of their labels."""

_DESCRIPTIONS = {
    ".csv", ".htm", ".html", ".ipynb", ".json", ".log", ".md", ".pdf", ".py", ".rst", ".sh",
    ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
}  # fmt: skip
"""Suffixes of texts and tables about a data set or a case, such as kits.json, in lower case."""

_OWN_NAMES = {"license", "licence", "readme", "desktop.ini", "thumbs.db"}
"""Names of such texts without a suffix, and of what Windows leaves in folders, in lower case."""

_DETACHED = (".nhdr", ".mhd")
"""Suffixes of image files whose voxels lie in a file of their own, in lower case."""


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
) -> list[Case]:
    """Refuse a data set that lacks what training or scoring needs; return its cases.

    Args:
        root: the folder of the data set.
        cases: its cases, by id.
        complete: True: every case must have an image and a label; a note names what belongs to
            no case. False: one case must have a label or annotations.
        names: what messages call the files.

    Returns:
        The cases. Of several whose ids are the same, or differ by case only, the first one stands
        for all, and says so in its `problem`.

    Raises:
        InputError: Something is missing, or where all must be complete, several cases have one id;
            all such cases are named.
    """
    joined = _join_same_ids(cases)
    if complete:
        _check_complete(root, joined, names)
        note_unused(root, joined)
    elif not any(case.has_truth for case in joined):
        raise InputError(f"{root}: no case has a {names.truth}; add them")
    return joined


def note_unused(root: str | Path, cases: Sequence[Case]) -> None:
    """Log one note that names what in a data set's folder belongs to no case, and may be meant.

    The folders of images and labels are looked into; what lies in a folder that one case has for
    itself is of that case. Descriptions are not named, such as dataset.json, kits.json or a README,
    nor are nnU-Net's test folders and the voxels of detached headers.
    """
    root = Path(root)
    used = {root / name for name in TEST_FOLDERS}
    for case in cases:
        used |= {case.image, case.label} if case.dataset else {case.folder}
    detached = {path.with_suffix("") for path in used if path.suffix.lower() in _DETACHED}
    left = list_unused(root, used)
    note_left(root, [p for p in left if not (_is_description(p) or _is_voxels(p, detached))])


def _is_description(path: Path) -> bool:
    """Tell whether a path is of a text or table about a data set, or of what Windows leaves."""
    names = {path.suffix.lower(), path.name.lower()}
    return not names.isdisjoint(_DESCRIPTIONS | _OWN_NAMES) and path.is_file()


def _is_voxels(path: Path, detached: set[Path]) -> bool:
    """Tell whether a file has the name of one of these headers, such as X.raw.gz beside X.nhdr."""
    stems = {path.with_suffix(""), path.with_suffix("").with_suffix("")}
    return image_stem(path.name) is None and not stems.isdisjoint(detached)


def _join_same_ids(cases: Sequence[Case]) -> list[Case]:
    """Join cases whose ids are the same but for capitals into one, whose problem names them all."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.case_id.lower(), []).append(case)
    joined = []
    for first, *others in found.values():
        if others:
            own, *rest = (c.image if c.dataset else c.folder for c in (first, *others))
            names = ", ".join(path.name for path in rest)
            first = replace(first, problem=f"{own} and {names} are of one case; keep one")
        joined.append(first)
    return joined


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
