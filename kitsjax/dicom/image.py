"""What the header of a DICOM file says: its series, and the place of each image in the patient."""

import re
import unicodedata
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from kitsjax.dicom.libraries import read_dataset

_TAGS = [
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality",
    "ImageType", "ConvolutionKernel", "PatientName", "PatientID", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
"""Only these are read. The patient's name is read in order to keep it out of names and messages."""

_HU = ("", "HU", "US")
"""Types of values that are HU; US means unspecified."""

_CT_CLASSES = ("", *(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "2.2")))
"""Storage classes of CT Image, Enhanced CT Image and Legacy Converted Enhanced CT Image, or none. A
file of modality CT and any other class need not hold an image."""

_EAST_ASIAN = "\u2e80"
"""The first of the letters of which one may be a whole name."""


@dataclass(frozen=True, eq=False)
class Image:
    """One slice: a file, or a frame of a file of several.

    Attributes:
        path: the file.
        frame: number of the frame in the file, from 0.
        shape: (rows, columns).
        position_mm: center of the first pixel, (3,), in DICOM's LPS+ world.
        directions: unit vectors (2, 3): along a row (to the next column), and along a column.
        spacing_mm: (from row to row, from column to column).
        scaling: slope and intercept from stored values to HU.
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    position_mm: np.ndarray
    directions: np.ndarray
    spacing_mm: tuple[float, float]
    scaling: tuple[float, float]


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A file with pixels, as far as its header tells.

    Attributes:
        path: the file.
        study: the study's UID; "" if there is none.
        series: the series' UID; "" if there is none.
        number: the series' number; "" if there is none.
        description: the series' description, without the patient's name.
        kernel: the convolution kernel; "" if there is none.
        modality: such as CT.
        image_type: values of Image Type, such as ORIGINAL, PRIMARY and AXIAL.
        images: the slices; empty if there is a problem.
        problem: what makes the file no part of a volume, such as "localizer"; "" if nothing does.
        hidden: words of the patient's name, as `holds_name` compares them, which go into no message
            and no name.
    """

    path: Path
    study: str
    series: str
    number: str
    description: str
    kernel: str
    modality: str
    image_type: tuple[str, ...]
    images: tuple[Image, ...]
    problem: str
    hidden: frozenset[str] = field(repr=False)


def read_header(path: Path) -> DicomFile | None:
    """Read the header of a DICOM file; None if it is no scan, such as a report or raw data.

    Raises:
        ValueError: The header is cut short; pydicom raises other exceptions for other damage.
    """
    header = read_dataset(path, path, stop_before_pixels=True, specific_tags=_TAGS)
    modality = _text(header, "Modality")
    if "Rows" not in header or "Columns" not in header:
        storage_class = _text(header.file_meta, "MediaStorageSOPClassUID")
        if modality in ("", "CT") and storage_class in _CT_CLASSES:
            raise ValueError("the header ends before it says how large the image is")
        return None
    if modality == "SEG":
        return None
    image_type = tuple(str(value).upper() for value in _values(header.get("ImageType")))
    problem = _find_problem(header, image_type)
    images: tuple[Image, ...] = ()
    if not problem:
        try:
            images = tuple(_read_images(path, header))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            problem = "without usable position, orientation, pixel spacing or scaling"
        else:
            problem = "" if images else "without frames"
    hidden = _hidden_words(header)
    return DicomFile(
        path, _text(header, "StudyInstanceUID"), _text(header, "SeriesInstanceUID"),
        _text(header, "SeriesNumber"), hide(_text(header, "SeriesDescription"), hidden),
        hide(_text(header, "ConvolutionKernel"), hidden), modality, image_type,
        images, problem, hidden,
    )  # fmt: skip


def hide(text: str, hidden: Iterable[str]) -> str:
    """Return the text, or "(name withheld)" if it holds a word of the patient's name."""
    return "(name withheld)" if holds_name(text, hidden) else text


def holds_name(text: str, hidden: Iterable[str]) -> bool:
    """Tell whether a text holds a word of the patient's name, in any case.

    A word of two letters, or of one East Asian letter, must be a whole word of the text: Liver does
    not hold Li.
    """
    folded, words = _fold(text), _split_words(text)
    return any(word in (folded if _letters(word) > 2 else words) for word in hidden)


def _hidden_words(header: Any) -> frozenset[str]:
    """Return the words of the patient's name, and each two of them joined, in both orders.

    There are none if the name is also the ID, as a pseudonym is. Initials are left out.
    """
    name = _text(header, "PatientName")
    if not name or name == _text(header, "PatientID"):
        return frozenset()
    words = [word for word in _split_words(name) if _letters(word) > 1]
    return frozenset([*words, *map("".join, permutations(words, 2))])


def _split_words(text: str) -> list[str]:
    """Split a text at everything that is no letter; words are folded by `_fold`."""
    return re.findall(r"[^\W\d_]+", _fold(text))


def _fold(text: str) -> str:
    """Return a text in lower case, with a letter and its accent as one character."""
    return unicodedata.normalize("NFC", text.casefold())


def _letters(word: str) -> int:
    """Count the letters of a word; an East Asian one, which may be a whole name, counts twice."""
    return sum(1 + (letter >= _EAST_ASIAN) for letter in word)


def _find_problem(header: Any, image_type: tuple[str, ...]) -> str:
    """Say what makes a file no part of a volume of HU; "" if nothing does."""
    modality = _text(header, "Modality")
    if modality != "CT":
        return f"{modality or 'no modality'}, not CT"
    if "LOCALIZER" in image_type:
        return "localizer"
    if header.get("SamplesPerPixel", 1) != 1 or _text(header, "PhotometricInterpretation") not in (
        "", "MONOCHROME2",
    ):  # fmt: skip
        return "not in gray values"
    if "ModalityLUTSequence" in header:
        return "with a table of values (Modality LUT)"
    return ""


def _read_images(path: Path, header: Any) -> Iterable[Image]:
    """Yield the slices of a file: of its frames if it has groups of them, else the one it is."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is None:
        if int(header.get("NumberOfFrames") or 1) != 1:
            raise ValueError("frames without positions")
        yield _make_image(path, 0, header, [header])
        return
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    for number, frame in enumerate(frames):
        groups = [
            item
            for holder in (frame, *shared)
            for element in holder
            if element.VR == "SQ"
            for item in element.value[:1]
        ]
        yield _make_image(path, number, header, [*groups, header])


def _make_image(path: Path, frame: int, header: Any, groups: list[Any]) -> Image:
    """Make a slice of the first value that the groups have for each attribute."""

    def find(name: str, default: Any = None) -> Any:
        return next((group.get(name) for group in groups if group.get(name) is not None), default)

    def numbers(name: str, count: int) -> np.ndarray:
        values = np.array([float(value) for value in _values(find(name))])
        if values.shape != (count,) or not np.isfinite(values).all():
            raise ValueError(name)
        return values

    row_mm, column_mm = numbers("PixelSpacing", 2)
    directions = numbers("ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if min(row_mm, column_mm) <= 0 or np.abs(lengths - 1).max() > 0.01:
        raise ValueError("PixelSpacing or ImageOrientationPatient")
    kind = str(find("RescaleType", "")).upper()
    if kind not in _HU:
        raise ValueError("RescaleType")
    slope, intercept = float(find("RescaleSlope")), float(find("RescaleIntercept"))
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise ValueError("RescaleSlope")
    return Image(
        path, frame, (int(header.Rows), int(header.Columns)), numbers("ImagePositionPatient", 3),
        directions / lengths[:, None], (float(row_mm), float(column_mm)), (slope, intercept),
    )  # fmt: skip


def _values(value: Any) -> list[Any]:
    """List the values of an attribute, of which there may be none, one or several."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _text(header: Any, name: str) -> str:
    """Return an attribute in one line; several values are joined by a slash."""
    return "/".join(" ".join(str(value).split()) for value in _values(header.get(name)))
