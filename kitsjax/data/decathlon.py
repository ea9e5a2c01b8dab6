"""Data folders in the layout of the Medical Segmentation Decathlon.

dataset.json lists the files: `"training": [{"image": "./imagesTr/X.nii.gz", "label":
"./labelsTr/X.nii.gz"}, ...]`, `"test": [...]`, and the labels by value.
"""

from pathlib import Path
from typing import Any

from kitsjax.data.case import Case, check_case_id
from kitsjax.data.dataset_json import (
    NAME,
    check_channels,
    is_litter,
    locate,
    note_count,
    read_dataset_json,
    read_scheme,
)
from kitsjax.errors import InputError
from kitsjax.image.file_format import image_stem
from kitsjax.labels import LabelScheme


def find_decathlon(root: Path) -> tuple[list[Case], LabelScheme]:
    """Find the training cases that dataset.json lists, and the labels; files may be missing.

    Entries of hidden files (`._X.nii.gz`), which macOS leaves in archives, are left out.

    Raises:
        InputError: dataset.json is missing or wrong, or a case has several channels.
    """
    content = read_dataset_json(root)
    scheme = read_scheme(root, content)
    check_channels(root, content)
    entries = list_entries(content)
    images = [locate(root, each.get("image"), "a training image") for each in entries]
    labels = [locate(root, each.get("label"), "a training label") for each in entries]
    names = [image_stem(image.name) or image.name for image in images]
    cases = [
        Case(check_case_id(name, image), image, label, dataset=root)
        for name, image, label in zip(names, images, labels, strict=True)
    ]
    note_count(root, content, len(cases))
    if not cases:
        raise InputError(f"{root / NAME}: training lists no case; list the images and labels")
    return sorted(cases, key=lambda case: case.case_id), scheme


def list_entries(content: dict[str, Any]) -> list[dict[str, Any]]:
    """List the entries of training cases of a dataset.json without litter; none without a list."""
    entries = content.get("training")
    found = entries if isinstance(entries, list) else []
    return [
        each if isinstance(each, dict) else {"image": each}
        for each in found
        if not is_litter(each.get("image") if isinstance(each, dict) else each)
    ]
