"""Find the CTs that a path names, and the mask that will be written for each."""

import os
from pathlib import Path

from kitsjax.data.kits import IMAGE_NAME, IMAGE_STEM, is_case_name
from kitsjax.errors import InputError
from kitsjax.image.file_format import (
    PROBABILITIES,
    advise_folder,
    find_nifti,
    list_folder,
    list_nifti,
    nifti_stem,
    note_passed_over,
    same_stem,
)
from kitsjax.input_file import reading


def find_inputs(
    path: str | Path, folder: str | Path, probabilities: bool = False
) -> list[tuple[Path, Path]]:
    """List the CTs at a path, sorted, each with the mask in `folder` that will be written for it.

    Args:
        path: a NIfTI file of any name; a KiTS case (a folder with imaging.nii.gz or imaging.nii,
            whose mask is named after the folder); or a folder of these. The case of names is
            ignored, and a note names what is passed over in a folder. A case_XXXXX folder that
            may not be read counts, so that reading it tells.
        folder: where the masks go; it need not exist.
        probabilities: the probabilities will be written beside the masks.

    Raises:
        InputError: no CT at the path, or it may not be read; two files that would be written to one
            path, or one that would replace a CT.
    """
    path, folder = Path(path), Path(folder)
    with reading(path):
        sources = [path] if _is_single(path) else _list_folder(path)
        if not sources:
            known = advise_folder(path)
            advice = known or "give a .nii or .nii.gz file, a folder of them, or a KiTS folder"
            raise InputError(f"{path}: no CT there; {advice}")
    targets = [folder / f"{_output_name(source)}.nii.gz" for source in sources]
    _check_outputs(sources, targets, probabilities)
    return list(zip(sources, targets, strict=True))


def probabilities_path(target: Path) -> Path:
    """Return the path of the probabilities that are written beside a mask."""
    stem = nifti_stem(target.name) or target.name
    return target.with_name(f"{stem}{PROBABILITIES}.nii.gz")


def _check_outputs(sources: list[Path], targets: list[Path], probabilities: bool) -> None:
    """Refuse files that would be written to one path, and one that would replace a CT."""
    # Unlike Path.resolve, realpath takes a loop of links for a path.
    inputs = {os.path.realpath(source) for source in sources}
    written: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        outputs = {target: "mask"}
        if probabilities:
            outputs[probabilities_path(target)] = "probabilities"
        for output, kind in outputs.items():
            if output in written:
                raise InputError(
                    f"{source} and {written[output]} would both be written to {output}; rename one"
                )
            if os.path.realpath(output) in inputs:
                raise InputError(
                    f"{output}: the {kind} of {source} would replace an input; choose another "
                    "output folder"
                )
            written[output] = source


def _is_single(path: Path) -> bool:
    """Tell whether a path is tried as a CT: all but folders, and what is not there at all."""
    return not path.is_dir() and os.path.lexists(path)


def _list_folder(folder: Path) -> list[Path]:
    """List the CTs of a KiTS case, or of a folder of CTs and KiTS cases."""
    inside = list_folder(folder)
    image = find_nifti(folder, IMAGE_STEM)
    if image is not None:
        return [image]
    cases = {path: image for path in inside if (image := _find_image(path)) is not None}
    files = list_nifti(folder)
    if files or cases:
        note_passed_over(folder, [*files, *cases])
    return sorted([*files, *cases.values()])


def _find_image(folder: Path) -> Path | None:
    """Find the CT of a KiTS case; None if the folder is none.

    A folder may be unreadable for good reason, such as lost+found, unless it is named like a case.
    """
    try:
        return find_nifti(folder, IMAGE_STEM)
    except PermissionError:
        return folder / IMAGE_NAME if is_case_name(folder.name) else None


def _output_name(source: Path) -> str:
    if same_stem(source.name, IMAGE_STEM):
        # Links are not resolved, for the file itself may be a link to a file of another name.
        return Path(os.path.abspath(source)).parent.name
    return nifti_stem(source.name) or source.name
