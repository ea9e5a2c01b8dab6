"""Read the pixels of a DICOM series as a volume in HU."""

import logging
from typing import Any

import numpy as np

from kitsjax.dicom.image import Image
from kitsjax.dicom.libraries import EXTRA, load_pydicom, read_dataset
from kitsjax.dicom.series import Series
from kitsjax.errors import InputError, first_line
from kitsjax.image.volume import Volume

AIR_HU = -1024
"""Voxels that no slice covers: at the edges of a straightened series."""

_logger = logging.getLogger(__name__)


def read_dicom(series: Series) -> Volume:
    """Read a series as float32 in HU, each slice with its own rescale slope and intercept.

    A note tells what was left out, of slices that are there twice, and of a tilted gantry, whose
    slices are moved by whole pixels so that the axes are perpendicular.

    Raises:
        InputError: The series is no volume (see `stack.make_stack`); its pixels are damaged, or
            compressed in a way for which a decoder is missing; or images at one place differ.
    """
    stack = series.stack
    header = stack.grid.header
    assert header is not None
    array = np.full(stack.grid.shape, AIR_HU, np.float32)
    in_file_order = header.to_file(array)
    files = _Files(series)
    doubled = 0
    for number, (images, (column, row)) in enumerate(zip(stack.slices, stack.offsets, strict=True)):
        pixels = files.read(images[0])
        for other in images[1:]:
            doubled += 1
            if not np.array_equal(pixels, files.read(other)):
                names = [series.name(image.path) for image in (images[0], other)]
                raise InputError(
                    f"{series}: {names[0]} and {names[1]} lie at one place with "
                    "different pixels (two phases or acquisitions); export each as a series of its "
                    "own"
                )
        rows, columns = pixels.shape
        in_file_order[column : column + columns, row : row + rows, number] = pixels.T
    _note(series, doubled)
    return Volume(array, stack.grid)


class _Files:
    """The files of a series; the last one stays open, since all frames may be in one."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._pydicom = load_pydicom(series)
        self._last: tuple[Any, Any] = (None, None)

    def read(self, image: Image) -> np.ndarray:
        """Read the pixels of an image in HU, (rows, columns) float32."""
        try:
            path, dataset = self._last
            if path != image.path:
                dataset = read_dataset(image.path, self._series)
                self._last = image.path, dataset
            stored = self._pydicom.pixels.pixel_array(dataset, index=image.frame)
        except InputError:
            raise
        except Exception as error:
            # pydicom and its decoders raise what they like.
            raise InputError(self._describe(image, error)) from None
        if stored.shape != image.shape:
            raise InputError(
                f"{self._name(image)} holds {stored.shape} pixels, and its header says "
                f"{image.shape}; get the file again"
            )
        slope, intercept = image.scaling
        return (stored * np.float64(slope) + intercept).astype(np.float32)

    def _name(self, image: Image) -> str:
        return f"{self._series}: {self._series.name(image.path)}"

    def _describe(self, image: Image, error: Exception) -> str:
        """Say why pixels cannot be read: a decoder is missing, or the file is damaged."""
        where = self._name(image)
        dataset = self._last[1]
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed and _lacks_decoder(self._pydicom, syntax):
            return f"{where} is compressed ({syntax.name}), and no decoder is installed; {EXTRA}"
        return f"{where}: its pixels cannot be read ({first_line(error)}); get the file again"


def _lacks_decoder(pydicom: Any, syntax: Any) -> bool:
    try:
        return not pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        return True


def _note(series: Series, doubled: int) -> None:
    """Log a note on each thing that makes the volume other than the files as they are."""
    stack = series.stack
    if left_out := series.left_out:
        kinds = ", ".join(sorted(set(left_out)))
        _logger.warning("%s: left out %d of %d files: %s", series, len(left_out),
                        len(series.files), kinds)  # fmt: skip
    if doubled:
        count = "1 image is" if doubled == 1 else f"{doubled} images are"
        _logger.warning("%s: %s there twice, with equal pixels", series, count)
    if stack.straightened:
        _logger.warning(
            "%s: the gantry was tilted by %.3g degrees; slices were moved by whole pixels to make "
            "the axes perpendicular, and the mask lies on that grid", series, stack.tilt_deg,
        )  # fmt: skip
