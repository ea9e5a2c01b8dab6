"""Find the CTs that a path names, and the mask that will be written for each."""

import os
from contextlib import suppress
from pathlib import Path

from kitsjax.data.kits import IMAGE_STEM
from kitsjax.errors import InputError
from kitsjax.image.file_format import (
    advise_folder,
    find_nifti,
    list_folder,
    list_nifti,
    nifti_stem,
    note_passed_over,
    same_stem,
)


def find_inputs(path: str | Path, folder: str | Path) -> list[tuple[Path, Path]]:
    """List the CTs at a path, sorted, each with the mask in `folder` that will be written for it.

    Args:
        path: a NIfTI file of any name; a KiTS case (a folder with imaging.nii.gz or imaging.nii,
            whose mask is named after the folder); or a folder of these. The case of names is
            ignored, and a note names what is passed over in a folder.
        folder: where the masks go; it need not exist.

    Raises:
        InputError: no CT at the path, two CTs with one mask, or a mask that would replace a CT.
    """
    path, folder = Path(path), Path(folder)
    sources = [path] if path.is_file() else _list_folder(path)
    if not sources:
        known = advise_folder(path)
        advice = known or "give a .nii or .nii.gz file, a folder of them, or a KiTS folder"
        raise InputError(f"{path}: no CT there; {advice}")
    inputs = {source.resolve() for source in sources}
    targets: dict[Path, Path] = {}
    for source in sources:
        target = folder / f"{_output_name(source)}.nii.gz"
        if target in targets:
            raise InputError(
                f"{source} and {targets[target]} would both be written to {target}; rename one"
            )
        if target.resolve() in inputs:
            raise InputError(
                f"{target}: the mask of {source} would replace an input; choose another output "
                "folder"
            )
        targets[target] = source
    return [(source, target) for target, source in targets.items()]


def _list_folder(folder: Path) -> list[Path]:
    """List the CTs of a KiTS case, or of a folder of CTs and KiTS cases."""
    try:
        inside = list_folder(folder)
    except PermissionError as error:
        raise InputError(f"{folder}: {error.strerror}; make it readable") from None
    image = find_nifti(folder, IMAGE_STEM)
    if image is not None:
        return [image]
    cases = {path: image for path in inside if (image := _find_image(path)) is not None}
    files = list_nifti(folder)
    if files or cases:
        note_passed_over(folder, [*files, *cases])
    return sorted([*files, *cases.values()])


def _find_image(folder: Path) -> Path | None:
    """Find the CT of a KiTS case; None if the folder is none or may not be read."""
    with suppress(PermissionError):
        return find_nifti(folder, IMAGE_STEM)
    return None


def _output_name(source: Path) -> str:
    if same_stem(source.name, IMAGE_STEM):
        # Links are not resolved, for the file itself may be a link to a file of another name.
        return Path(os.path.abspath(source)).parent.name
    return nifti_stem(source.name) or source.name
