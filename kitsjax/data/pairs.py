"""Data folders of two folders, images and labels, whose files have the same names."""

from pathlib import Path

from kitsjax.data.case import Case, check_case_id
from kitsjax.errors import InputError
from kitsjax.image.case_names import FIRST_CHANNEL, name_cases
from kitsjax.image.file_format import image_stem, list_folder, list_images

IMAGE_FOLDERS = ("images", "image", "ct", "cts")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "seg", "segs", "segmentations")
"""Names of the two folders, whose case is ignored."""


def has_pairs(root: Path) -> bool:
    """Tell whether a folder holds a folder of images and one of labels."""
    return bool(_find_folders(root, IMAGE_FOLDERS) and _find_folders(root, LABEL_FOLDERS))


def find_pairs(root: Path) -> list[Case]:
    """Find the cases of a folder of images and a folder of labels; files may be missing.

    Raises:
        InputError: There are no two such folders, or as `pair_files`.
    """
    folders = []
    for names in (IMAGE_FOLDERS, LABEL_FOLDERS):
        found = _find_folders(root, names)
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            raise InputError(f"{root}: needs one folder of {', '.join(names)}; there is: {there}")
        folders += found
    return pair_files(root, *folders)


def pair_files(root: Path, images: Path, labels: Path) -> list[Case]:
    """Pair the images of a folder with the labels of another; either may be missing.

    The name of a label is the id of its case. Its image has the same name, or nnU-Net's with
    `_0000`.

    Raises:
        InputError: A case has two channels, two images or two labels, or no name that is safe.
    """
    by_id: dict[str, dict[str, Path]] = {}
    label_files = list_images(labels)
    label_names = [str(image_stem(path.name)) for path in label_files]
    image_files = list_images(images)
    image_names = name_cases(image_files, {name.lower() for name in label_names})
    ids: dict[str, str] = {}
    for kind, files, names in (
        ("label", label_files, label_names),
        ("image", image_files, image_names),
    ):
        for path, name in zip(files, names, strict=True):
            case_id = ids.setdefault(name.lower(), check_case_id(name, path))
            pair = by_id.setdefault(case_id, {})
            if kind in pair:
                raise InputError(f"{pair[kind]} and {path.name} are of one case; keep one")
            pair[kind] = path
    return [
        Case(
            case_id,
            pair.get("image", images / f"{case_id}{FIRST_CHANNEL}.nii.gz"),
            pair.get("label", labels / f"{case_id}.nii.gz"),
            dataset=root,
        )
        for case_id, pair in sorted(by_id.items())
    ]


def _find_folders(root: Path, names: tuple[str, ...]) -> list[Path]:
    return [path for path in list_folder(root) if path.name.lower() in names and path.is_dir()]
