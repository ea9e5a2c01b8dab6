"""Find the CTs that a path names, and the mask that will be written for each."""

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from kitsjax.data.kits import IMAGE_NAME, IMAGE_STEM, LABEL_STEMS, is_case_name
from kitsjax.data.nnunet import TEST_IMAGES
from kitsjax.dicom.cases import find_dicom
from kitsjax.dicom.libraries import load_highdicom
from kitsjax.dicom.list_files import list_files
from kitsjax.dicom.read_volume import Source, files_of
from kitsjax.dicom.segmentation import segmentation_path
from kitsjax.errors import InputError
from kitsjax.image.case_names import name_cases
from kitsjax.image.file_format import (
    PROBABILITIES,
    advise_folder,
    image_stem,
    list_folder,
    list_images,
    list_spellings,
    nifti_stem,
    note_passed_over,
    same_stem,
)
from kitsjax.input_file import reading

_LABELS = {stem.lower() for stem in (*LABEL_STEMS, "aggregated_AND_seg", "aggregated_OR_seg")}
"""File names of the labels of KiTS cases, without suffix and in lower case."""


def find_inputs(
    path: str | Path,
    folder: str | Path,
    probabilities: bool = False,
    series: str | None = None,
    dicom_seg: bool = False,
) -> list[tuple[Source, Path]]:
    """List the CTs at a path, sorted, each with the mask in `folder` that will be written for it.

    Args:
        path: a NIfTI, NRRD or MetaImage file of any name; a KiTS case (a folder with imaging.nii.gz
            or imaging.nii, which beside cases or other images is one CT more; its mask is named
            after the folder); a folder of these; a data set of nnU-Net's, whose imagesTs is taken;
            or, where there is none, DICOM (see `cases.find_dicom`). The mask of nnU-Net's X_0000 is
            X. The case of names is ignored, and a note names what is passed over in a folder, or
            counts it beside DICOM. A case_XXXXX folder that may not be read counts, so that reading
            it tells.
        folder: where the masks go; it need not exist.
        probabilities: the probabilities will be written beside the masks.
        series: the number or UID of the DICOM series to take; None: the most plausible one.
        dicom_seg: each mask will also be written as DICOM SEG.

    Raises:
        InputError: no CT at the path, or it may not be read; two channels of a CT; two files that
            would be written to one path, or one that would replace a CT; a series or a DICOM SEG is
            asked for, but a CT is no DICOM, other images lie beside the DICOM and are taken before
            it, or highdicom is not installed.
    """
    path, folder = Path(path), Path(folder)
    with reading(path):
        found = _find_images(path)
        dicom = [] if path.is_dir() and found else find_dicom(path, series)
        if not dicom and not found:
            known = advise_folder(path)
            advice = known or (
                "give a NIfTI, NRRD or MetaImage file, a folder of them, a KiTS folder, or DICOM"
            )
            raise InputError(f"{path}: no CT there; {advice}")
    named: list[tuple[Source, str]] = [*dicom] or _name_outputs(found)
    files = [(source, folder / f"{name}.nii.gz") for source, name in named]
    if not dicom and (series is not None or dicom_seg):
        _check_no_dicom(path, found)
    if series is not None and not dicom:
        raise InputError(
            f"{path}: holds no DICOM, so there is no series; predict it without --series"
        )
    if dicom_seg:
        _check_segmentations(files)
    _check_outputs(files, probabilities, dicom_seg)
    if dicom and os.path.realpath(folder) == os.path.realpath(path):
        raise InputError(f"{folder}: holds the DICOM files; choose another output folder")
    return files


def probabilities_path(target: Path) -> Path:
    """Return the path of the probabilities that are written beside a mask."""
    stem = nifti_stem(target.name) or target.name
    return target.with_name(f"{stem}{PROBABILITIES}.nii.gz")


def _check_no_dicom(path: Path, images: Sequence[Path]) -> None:
    """Refuse a folder whose DICOM was not looked for, since images of other formats lie there."""
    if path.is_dir() and list_files(path)[0]:
        raise InputError(
            f"{path}: holds image files ({images[0].relative_to(path)}), which are taken before "
            "DICOM; move them away or give the DICOM folder"
        )


def _check_segmentations(files: Sequence[tuple[Source, Path]]) -> None:
    """Refuse CTs that are no DICOM; a series without what a DICOM SEG needs fails by itself."""
    for source, _ in files:
        if isinstance(source, Path):
            raise InputError(f"{source}: is no DICOM series; predict it without --dicom-seg")
        load_highdicom(source)


def _check_outputs(
    files: Sequence[tuple[Source, Path]], probabilities: bool, dicom_seg: bool
) -> None:
    """Refuse files that would be written to one path, and one that would replace a CT."""
    # Unlike Path.resolve, realpath takes a loop of links for a path.
    inputs = {os.path.realpath(file) for source, _ in files for file in files_of(source)}
    written: dict[Path, Source] = {}
    for source, target in files:
        outputs = {target: "mask"}
        if probabilities:
            outputs[probabilities_path(target)] = "probabilities"
        if dicom_seg:
            outputs[segmentation_path(target)] = "DICOM SEG"
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


def _find_images(path: Path) -> list[Path]:
    """List the images at a path; a file of any name is tried, and a link to none, too."""
    if path.is_dir():
        return _list_folder(path / TEST_IMAGES if (path / TEST_IMAGES).is_dir() else path)
    return [path] if os.path.lexists(path) else []


def _list_folder(folder: Path) -> list[Path]:
    """List the CTs of a KiTS case, or of a folder of CTs and KiTS cases.

    Unless it is named like a case, a folder is one if it holds neither cases nor other images.
    """
    files = list_images(folder)
    if own := list_spellings(folder, IMAGE_STEM):
        if is_case_name(_folder_name(folder)):
            return own
        files = [file for file in files if not _is_label(file)]
    cases = {path: images for path in list_folder(folder) if (images := _list_case(path))}
    if own and not cases and len(files) == len(own):
        return own
    if files or cases:
        note_passed_over(folder, [*files, *cases])
    return sorted([*files, *chain.from_iterable(cases.values())])


def _list_case(folder: Path) -> list[Path]:
    """List the CT of a KiTS case, of which there may be several; none if the folder is no case.

    A folder may be unreadable for good reason, such as lost+found, unless it is named like a case.
    """
    try:
        return list_spellings(folder, IMAGE_STEM)
    except PermissionError:
        return [folder / IMAGE_NAME] if is_case_name(folder.name) else []


def _is_label(file: Path) -> bool:
    """Tell whether a file beside the CT of a KiTS case is named like its label or its mask."""
    stem = (image_stem(file.name) or "").lower().removesuffix(PROBABILITIES)
    return stem in (*_LABELS, _folder_name(file.parent).lower())


def _folder_name(folder: Path) -> str:
    """Return the name that a folder has where it lies, which "." does not tell; "" for the root.

    Links are not resolved, for a file itself may be a link to a file of another name.
    """
    return Path(os.path.abspath(folder)).name


def _name_outputs(files: Sequence[Path]) -> list[tuple[Source, str]]:
    """Pair each CT with the name of its mask, without a suffix."""
    kits = [same_stem(file.name, IMAGE_STEM) for file in files]
    others = [file for file, is_kits in zip(files, kits, strict=True) if not is_kits]
    names = iter(name_cases(others))
    return [
        (file, _folder_name(file.parent) or IMAGE_STEM if is_kits else next(names))
        for file, is_kits in zip(files, kits, strict=True)
    ]
