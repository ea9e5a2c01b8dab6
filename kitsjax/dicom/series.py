"""DICOM series: the files of a folder that belong together, and the choice among several."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kitsjax.dicom.image import DicomFile, Image, holds_name, read_header
from kitsjax.dicom.libraries import load_pydicom
from kitsjax.dicom.stack import Stack, make_stack
from kitsjax.errors import InputError
from kitsjax.failures import catch
from kitsjax.image.volume import format_numbers

_logger = logging.getLogger(__name__)

_SHARP = re.compile(r"lung|bone|edge|sharp", re.IGNORECASE)
"""Kernels, and words of descriptions, of series for lungs and bones."""

_SHARP_NUMBER = {"FC": 30}
"""Kernels of this number and above are sharp; of all other letters it is `_OTHER_SHARP_NUMBER`."""

_OTHER_SHARP_NUMBER = 55


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one series.

    Attributes:
        files: the files, sorted by path.
        place: the folder or file, for messages.
        label: what `--series` calls it: its number, or its UID, or # and its place in the list.
        fault: why it cannot be what was asked for; "" if it can.
    """

    files: tuple[DicomFile, ...]
    place: str
    label: str
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.place}: series {self.label}"

    @property
    def first(self) -> DicomFile:
        """The first file, which speaks for all of them: one with slices, if there is one."""
        return next((file for file in self.files if file.images), self.files[0])

    @property
    def images(self) -> list[Image]:
        """The slices of all files, in no order of their own."""
        return [image for file in self.files for image in file.images]

    @property
    def left_out(self) -> list[str]:
        """What makes files no part of the volume, one entry a file."""
        return [file.problem for file in self.files if file.problem]

    @cached_property
    def stack(self) -> Stack:
        """The slices in order, and their grid.

        Raises:
            InputError: The slices are no volume; see `stack.make_stack`.
        """
        if self.fault:
            raise InputError(f"{self.place}: {self.fault}")
        if not self.images:
            raise InputError(
                f"{self}: its images are {self.left_out[0]}; give a CT series with a volume"
            )
        return make_stack(self.images, str(self))

    @property
    def problem(self) -> str:
        """Why the series cannot be read, without its name; "" if it can be."""
        stack = catch(lambda: self.stack)
        return str(stack).removeprefix(f"{self}: ") if isinstance(stack, InputError) else ""

    def name(self, path: Path) -> str:
        """Return the name of a file or folder, or a UID if it holds the patient's."""
        hidden = self.first.hidden
        if not holds_name(path.name, hidden):
            return path.name
        return self.first.study or self.first.series or "dicom"

    def describe(self) -> str:
        """Describe the series in one line, without the patient's name."""
        first, problem = self.first, self.problem
        texts = [f'"{first.description}"' if first.description else "no description"]
        if first.kernel:
            texts.append(f"kernel {first.kernel}")
        if problem:
            count = len(self.images) or len(self.files)
            reason = problem.split("; ")[0] if self.images else self.left_out[0]
            texts += [f"{count} {'image' if count == 1 else 'images'}", reason]
        else:
            depth_mm = format_numbers([self.stack.step_mm])
            texts.append(f"{len(self.stack.slices)} slices of {depth_mm} mm")
        return ", ".join(texts)


def read_series(paths: Sequence[Path], place: str) -> tuple[list[Series], list[Path]]:
    """Read the headers of DICOM files, and group those with images into series, without labels.

    Files of one series and study UID belong together, and where the series' UID is blank, those of
    one folder. A note counts files that cannot be read.

    Args:
        paths: the files, at least one.
        place: their folder, for messages.

    Returns:
        The series, and the files that cannot be read.

    Raises:
        InputError: pydicom is not installed, or no file holds images that can be read.
    """
    load_pydicom(place)
    groups: dict[tuple[str, str], list[DicomFile]] = {}
    damaged: list[Path] = []
    for path in paths:
        file = catch(read_header, path)
        if isinstance(file, InputError):
            damaged.append(path)
        elif file is not None:
            key = file.study, file.series or str(path.parent)
            groups.setdefault(key, []).append(file)
    if not groups:
        fault = f"{len(damaged)} cannot be read; get them again" if damaged else "give a CT series"
        raise InputError(f"{place}: no images in its {len(paths)} DICOM files; {fault}")
    if damaged:
        _logger.warning("%s: %d of %d DICOM files cannot be read", place, len(damaged), len(paths))
    return [Series(tuple(files), place, "") for files in groups.values()], damaged


def label_series(series: Sequence[Series], place: str) -> list[Series]:
    """Sort the series of a case by number, and give each a label that no other has.

    Args:
        series: the series of one case.
        place: the case, for messages.
    """
    ordered = sorted(series, key=lambda one: (_number(one), one.first.series))
    numbers = [one.first.number for one in ordered]
    labels = [
        number if number and numbers.count(number) == 1 else one.first.series or f"#{place_in_list}"
        for place_in_list, (number, one) in enumerate(zip(numbers, ordered, strict=True), 1)
    ]
    return [
        replace(one, place=place, label=label) for one, label in zip(ordered, labels, strict=True)
    ]


def choose_series(series: Sequence[Series], label: str | None) -> Series:
    """Choose the series that is labeled so, or the one that is most plausible.

    Plausible is, in this order: a volume that can be read, axial, original, no sharp kernel, many
    slices.

    Args:
        series: those of one folder, at least one.
        label: a series' number, UID or label; None: the most plausible one.

    Returns:
        The series. If none has the label, one whose `stack` says so.
    """
    if label is None:
        return max(series, key=_plausibility)
    found = [one for one in series if label in (one.label, one.first.number, one.first.series)]
    if len(found) == 1:
        return found[0]
    labels = ", ".join(one.label for one in series)
    count = f"{len(found)} series are" if found else "no series is"
    return replace(series[0], fault=f"{count} {label}; give --series one of {labels}")


def _plausibility(series: Series) -> tuple[bool, bool, bool, bool, int]:
    first, images = series.first, series.images
    axial = bool(images) and abs(_normal_z(images[0])) > 0.7
    return (
        not series.problem, axial, "ORIGINAL" in first.image_type, not _is_sharp(first),
        len(images),
    )  # fmt: skip


def _normal_z(image: Image) -> float:
    (a, b, _), (c, d, _) = image.directions
    return float(a * d - b * c)


def _is_sharp(file: DicomFile) -> bool:
    """Tell a kernel for lungs or bones by its name or number, or by the series' description."""
    if _SHARP.search(f"{file.kernel} {file.description}"):
        return True
    match = re.match(r"([A-Za-z]+)(\d\d)", file.kernel)
    if match is None:
        return False
    return int(match[2]) >= _SHARP_NUMBER.get(match[1].upper(), _OTHER_SHARP_NUMBER)


def _number(series: Series) -> int:
    number = series.first.number
    return int(number) if number.isdecimal() else 0
