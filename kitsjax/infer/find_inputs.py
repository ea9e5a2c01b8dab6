"""Find the CTs that a path names, and the mask that will be written for each."""

import os
from pathlib import Path

from kitsjax.data.kits import IMAGE_NAME
from kitsjax.errors import InputError


def find_inputs(path: str | Path, folder: str | Path) -> list[tuple[Path, Path]]:
    """List the CTs at a path, sorted, each with the mask in `folder` that will be written for it.

    Args:
        path: a .nii or .nii.gz file; a KiTS case (a folder with imaging.nii.gz, whose mask is named
            after the folder); or a folder of these.
        folder: where the masks go; it need not exist.

    Raises:
        InputError: no CT at the path, two CTs with one mask, or a mask that would replace a CT.
    """
    path, folder = Path(path), Path(folder)
    sources = [path] if path.is_file() else _list_folder(path)
    if not sources:
        raise InputError(
            f"{path}: no CT there; give a .nii or .nii.gz file, a folder of them, or a KiTS folder"
        )
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
    if (folder / IMAGE_NAME).is_file():
        return [folder / IMAGE_NAME]
    files = [path for path in folder.glob("[!.]*") if path.name.endswith((".nii", ".nii.gz"))]
    return sorted([*files, *folder.glob(f"*/{IMAGE_NAME}")])


def _output_name(source: Path) -> str:
    if source.name == IMAGE_NAME:
        # Links are not resolved, for the file itself may be a link to a file of another name.
        return Path(os.path.abspath(source)).parent.name
    return source.name.removesuffix(".gz").removesuffix(".nii")
