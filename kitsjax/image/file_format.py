"""Tell files apart: their format by their first bytes, NIfTI names without regard to case."""

import logging
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from kitsjax.errors import name_first

NIFTI_SUFFIXES = (".nii.gz", ".nii")
"""The suffixes of a NIfTI file, in any case. They find files in folders; the content decides how a
file is read."""

IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd")
"""The suffixes of the image files that are read, in any case."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

PROBABILITIES = "_probabilities"
"""The name of a mask with this added is that of its probabilities, where prediction writes them."""

HEADER_BYTES = 540
"""So many first bytes tell a format, and hold the header of NIfTI-1 and NIfTI-2."""

GZIP, NIFTI_1, NIFTI_2, UNKNOWN = "gzip", "NIfTI-1", "NIfTI-2", "unknown format"

_UNPACK = "unpack it with gunzip"
"""These are read unless the whole file is gzipped."""

ADVICE = {
    "DICOM": "convert the series with dcm2niix",
    "NRRD": _UNPACK,
    "MetaImage": _UNPACK,
    "half of a NIfTI pair": "convert the .hdr and .img files to one .nii.gz",
    "Analyze 7.5": "convert the .hdr and .img files to one .nii.gz, and check the orientation",
    "bzip2": "unpack it with bunzip2",
    "zstd": "unpack it with unzstd",
    "xz": "unpack it with unxz",
    "zip": "unpack it with unzip",
    "tar": "unpack it with tar -xf",
    "HTML": "a web page was saved in its place: download the file again",
    "a Git LFS pointer": "fetch the file with git lfs pull",
    "empty": "get the file again",
    UNKNOWN: "give a complete .nii.gz",
}
"""What to do with a file of each format that is not read."""

_FIRST_BYTES = {
    b"\x1f\x8b": GZIP,
    b"NRRD": "NRRD",
    b"ObjectType": "MetaImage",
    b"NDims": "MetaImage",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"version https://git-lfs": "a Git LFS pointer",
}

_MOST_NAMED = 5
"""A note names at most this many files."""

_logger = logging.getLogger(__name__)


def tell_format(start: bytes) -> str:
    """Tell a format by a file's first `HEADER_BYTES` bytes.

    Returns:
        GZIP, NIFTI_1, NIFTI_2 or a key of `ADVICE`. NIfTI is told by its magic string, whatever
        the byte order.
    """
    if not start:
        return "empty"
    if start[344:347] == b"n+1":
        return NIFTI_1
    if start[4:7] == b"n+2":
        return NIFTI_2
    if start[344:347] == b"ni1" or start[4:7] == b"ni2":
        return "half of a NIfTI pair"
    if start[128:132] == b"DICM":
        return "DICOM"
    if start[257:262] == b"ustar":
        return "tar"
    for first, name in _FIRST_BYTES.items():
        if start.startswith(first):
            return name
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "HTML"
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    return "Analyze 7.5" if sizes & {348, 540} else UNKNOWN


def nifti_stem(name: str) -> str | None:
    """Return a file name without its NIfTI suffix, whose case is ignored; None if it has none."""
    return _stem(name, NIFTI_SUFFIXES)


def image_stem(name: str) -> str | None:
    """Return a file name without its suffix of `IMAGE_SUFFIXES`; None if it has none."""
    return _stem(name, IMAGE_SUFFIXES)


def dicom_stem(name: str) -> str:
    """Return a file name without .dcm, .dicom or .ima in any case; as it is if it has none."""
    return _stem(name, _DICOM_SUFFIXES) or name


def list_folder(folder: Path) -> list[Path]:
    """List what is visible in a folder, sorted; nothing if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def list_nifti(folder: Path) -> list[Path]:
    """List the files of a folder that are named like NIfTI, sorted, without hidden ones.

    A link to a missing file counts, so that reading it tells. A folder that is missing has none.
    """
    return [path for path in list_images(folder) if nifti_stem(path.name)]


def list_images(folder: Path) -> list[Path]:
    """List the files of a folder that are named like images that are read; see `list_nifti`."""
    return [path for path in list_folder(folder) if image_stem(path.name) and not path.is_dir()]


def find_nifti(folder: Path, stem: str) -> Path | None:
    """Find the NIfTI file of a folder with this stem, ignoring case; None if there is none.

    Of several, it is the first of `list_spellings`.
    """
    return next(iter(list_spellings(folder, stem)), None)


def list_spellings(folder: Path, stem: str) -> list[Path]:
    """List the NIfTI files of a folder with this stem, ignoring case; see `list_nifti`.

    The packed ones come first, and of these the one that is spelled alike.
    """

    def rank(path: Path) -> tuple[bool, bool]:
        return not path.name.lower().endswith(".gz"), nifti_stem(path.name) != stem

    return sorted((p for p in list_nifti(folder) if same_stem(p.name, stem)), key=rank)


def same_stem(name: str, stem: str) -> bool:
    """Tell whether a file name is this stem with a NIfTI suffix, ignoring case."""
    own = nifti_stem(name)
    return own is not None and own.lower() == stem.lower()


def note_passed_over(folder: Path, used: Collection[Path]) -> None:
    """Log one note that counts and names what `list_unused` lists in a folder."""
    note_left(folder, list_unused(folder, used))


def note_left(folder: Path, left: Sequence[Path]) -> None:
    """Log one note that counts and names files and folders in a folder, unless there are none."""
    if left:
        _logger.warning("%s: passed over %s", folder, _count_files(folder, left))


def list_unused(folder: Path, used: Collection[Path]) -> list[Path]:
    """List what is visible in a folder and not used, sorted.

    Args:
        folder: the folder.
        used: files and folders in it. Nothing in a used folder is listed; a folder that only holds
            something used is searched.
    """
    used = set(used)
    return _list_unused(folder, used, {parent for path in used for parent in path.parents})


def _list_unused(folder: Path, used: set[Path], holders: set[Path]) -> list[Path]:
    left = []
    for path in list_folder(folder):
        if path in used:
            continue
        if path not in holders:
            left.append(path)
            continue
        # Files may be read in a folder that may not be listed.
        with suppress(PermissionError):
            left += _list_unused(path, used, holders)
    return left


def _count_files(folder: Path, paths: Sequence[Path]) -> str:
    """Count files and name the first of them from a folder, with their formats if known."""

    def describe(path: Path) -> str:
        return str(path.relative_to(folder)) + _known_format(path)

    noun = "file" if len(paths) == 1 else "files"
    return f"{len(paths)} {noun}: {name_first(paths, _MOST_NAMED, describe)}"


def advise_folder(folder: Path) -> str:
    """Say what a folder without NIfTI files holds and what to do; empty if nothing is known."""
    for path in list_folder(folder):
        name = "" if path.is_dir() else tell_format(read_start(path))
        if name in ADVICE and name not in (UNKNOWN, "empty"):
            advice = "give the file itself" if ADVICE[name] == _UNPACK else ADVICE[name]
            return f"{path.name} is {name}: {advice}"
    return ""


def read_start(path: Path) -> bytes:
    """Read a file's first `HEADER_BYTES` bytes as they are stored; none if it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(HEADER_BYTES)
    except OSError:
        return b""


def _stem(name: str, suffixes: tuple[str, ...]) -> str | None:
    for suffix in suffixes:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return None


def _known_format(path: Path) -> str:
    if path.is_dir():
        try:
            os.scandir(path).close()
        except PermissionError:
            return " (a folder that may not be read)"
        return " (a folder)"
    name = tell_format(read_start(path))
    return "" if name in (UNKNOWN, "empty") else f" ({name})"
