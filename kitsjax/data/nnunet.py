"""Data folders in the raw layout of nnU-Net, versions 1 and 2.

    imagesTr/X_0000.nii.gz    the CT of case X; 0000 is the number of its channel
    labelsTr/X.nii.gz         its label map
    imagesTs/                 CTs to predict, which training does not read
    dataset.json              labels, and what else nnU-Net wants to know

Instead of the folders, `dataset` in dataset.json may name the files of each case.
"""

from pathlib import Path
from typing import Any

from kitsjax.data.case import Case, check_case_id
from kitsjax.data.dataset_json import (
    NAME,
    check_channels,
    locate,
    note_count,
    read_dataset_json,
    read_scheme,
)
from kitsjax.data.pairs import pair_files
from kitsjax.errors import InputError
from kitsjax.image.file_format import IMAGE_SUFFIXES
from kitsjax.labels import LabelScheme

IMAGES, LABELS, TEST_IMAGES = "imagesTr", "labelsTr", "imagesTs"

KEYS = ("channel_names", "file_ending", "dataset")
"""Keys of dataset.json that only nnU-Net 2 has."""


def find_nnunet(root: Path) -> tuple[list[Case], LabelScheme]:
    """Find the training cases of a raw nnU-Net folder, and its labels; files may be missing.

    Raises:
        InputError: dataset.json is missing or wrong, a case has several channels, or as
            `pair_files`.
    """
    content = read_dataset_json(root)
    scheme = read_scheme(root, content)
    check_channels(root, content)
    ending = content.get("file_ending", IMAGE_SUFFIXES[0])
    if not isinstance(ending, str) or ending.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"{root / NAME}: file_ending {ending!r} is none of {', '.join(IMAGE_SUFFIXES)}; "
            "convert the images"
        )
    if "dataset" in content:
        cases = _list_named(root, content["dataset"])
    else:
        cases = pair_files(root, root / IMAGES, root / LABELS)
    note_count(root, content, sum(case.has_label for case in cases))
    return cases, scheme


def _list_named(root: Path, entries: Any) -> list[Case]:
    """List the cases whose files dataset.json names: {"X": {"images": [path], "label": path}}."""
    place = f"{root / NAME}: dataset"
    if not isinstance(entries, dict):
        raise InputError(f'{place} is no object; write {{"name": {{"images": [...], ...}}}}')
    cases = []
    for name, files in entries.items():
        images = files.get("images") if isinstance(files, dict) else None
        if not isinstance(images, list) or not images:
            raise InputError(f'{place}: {name!r} has no images; write "images": ["path"]')
        if len(images) > 1:
            raise InputError(
                f"{place}: {name!r} has {len(images)} channels, and kitsjax reads one; keep the CT"
            )
        image = locate(root, images[0], f"the image of {name!r}")
        label = locate(root, files.get("label"), f"the label of {name!r}")
        cases.append(Case(check_case_id(name, root / NAME), image, label, dataset=root))
    return sorted(cases, key=lambda case: case.case_id)
