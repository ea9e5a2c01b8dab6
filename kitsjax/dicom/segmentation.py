"""Write label maps as DICOM SEG that refers to the images of the series."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

import kitsjax
from kitsjax.dicom.libraries import load_highdicom, read_dataset
from kitsjax.dicom.series import Series
from kitsjax.errors import InputError, first_line
from kitsjax.files import atomic_write
from kitsjax.image.file_format import nifti_stem
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import check_same_grid
from kitsjax.labels import Code, LabelScheme

SUFFIX = ".seg.dcm"
"""Ending of a DICOM SEG's name, in place of the mask's .nii.gz."""

TISSUE = Code("85756007", "Tissue")
"""Category and type of a label without codes, as DICOM's context groups 7150 and 7166 list them. It
claims nothing that is not known, and is 3D Slicer's default."""

_LONGEST_LABEL = 64
"""DICOM's limit for the characters of a segment's name."""

_SERIES_NUMBER = 9001
"""Segmentations come after the scanner's own series in a viewer's list."""

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
           "FrameOfReferenceUID")  # fmt: skip
"""A SEG refers to its images by these."""

_EXPECTED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
             "StudyTime", "AccessionNumber", "ReferringPhysicianName")  # fmt: skip
"""The standard wants these in every file, blank where nothing is known."""


def check_referable(series: Series) -> None:
    """Check that a DICOM SEG can refer to the images of a series, before its prediction.

    Raises:
        InputError: An image lacks a UID, or highdicom is not installed.
    """
    load_highdicom(series)
    for path in _paths(series):
        header = _read(series, path, specific_tags=list(_NEEDED))
        if missing := [name for name in _NEEDED if not header.get(name)]:
            raise InputError(
                f"{series}: its images lack {', '.join(missing)}, by which a DICOM SEG refers to "
                "them; predict without --dicom-seg"
            )


def segmentation_path(mask: Path) -> Path:
    """Return the path of the DICOM SEG that is written beside a mask."""
    return mask.with_name(f"{nifti_stem(mask.name) or mask.name}{SUFFIX}")


def is_made_of(path: Path, key: str) -> bool:
    """Tell whether a file is the DICOM SEG of the mask with this key in its header."""
    return _has_uid(path, _make_uid(key))


def convert_mask(mask: Path, series: Series, scheme: LabelScheme) -> None:
    """Write the DICOM SEG of a mask beside it, unless it is there and current.

    Args:
        mask: a mask that prediction wrote for the series. The SEG's UID is made of the key in its
            header, which stands for everything that its voxels depend on.
        series: the series, whose images the SEG refers to.
        scheme: the mask's label scheme, which gives the segments their names, colors and codes.

    Raises:
        InputError: The mask cannot be read, the images lack what a SEG needs, or it cannot be
            written.
    """
    path = segmentation_path(mask)
    label = read_label(mask, range(len(scheme.names)))
    assert label.header is not None
    key = bytes(label.header.nifti["descrip"].item()).rstrip(b"\0").decode("ascii", "replace")
    uid = _make_uid(key)
    if not _has_uid(path, uid):
        check_same_grid(series.stack.grid, label.grid)
        series_uid = _make_uid(f"{key} series")
        dataset = _make_dataset(label.array, series, uid, series_uid, scheme)
        with atomic_write(path) as temporary:
            dataset.save_as(temporary)


def _make_dataset(
    label: UInt8[np.ndarray, "z y x"],
    series: Series,
    uid: str,
    series_uid: str,
    scheme: LabelScheme,
) -> Any:
    """Make a binary DICOM SEG with a segment for each label that is no background."""
    highdicom = load_highdicom(series)
    with _naming(series):
        segments = [_describe_segment(highdicom, value, scheme) for value in scheme.foreground]
        dataset = highdicom.seg.Segmentation(
            source_images=[_source(series, source) for source in _paths(series)],
            pixel_array=_frames(series, label),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=series_uid,
            series_number=_SERIES_NUMBER,
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer="kitsjax",
            manufacturer_model_name="kitsjax",
            software_versions=kitsjax.__version__,
            device_serial_number="none",
            # A file without a frame is none: where nothing was found, all are stored.
            omit_empty_frames=bool(label.any()),
            content_label="KIDNEYS" if scheme.is_kits else "SEGMENTATION",
            series_description="Segmentation by kitsjax",
        )
    # The standard wants it there; nobody but the program made the segmentation.
    dataset.ContentCreatorName = None
    return dataset


def _has_uid(path: Path, uid: str) -> bool:
    """Tell whether a file is the DICOM SEG with this UID; as it was written atomically, whole."""
    try:
        if not path.is_file():
            return False
        header = read_dataset(path, path, specific_tags=["SOPInstanceUID"])
    except Exception:
        # Whatever is wrong with it, a new one is written.
        return False
    return bool(header.SOPInstanceUID == uid)


def _make_uid(key: str) -> str:
    """Make a UID of a text; equal texts give equal ones."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[key]))


def _describe_segment(highdicom: Any, value: int, scheme: LabelScheme) -> Any:
    """Describe the segment of a label: name, codes, color, and that it was found by a network."""
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code as Concept

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="kitsjax", version=kitsjax.__version__, family=codes.cid7162.ArtificialIntelligence
    )
    own = scheme.codes[value - 1] if scheme.codes else (TISSUE, TISSUE)
    category, kind = (Concept(code.value, "SCT", code.meaning) for code in own)
    regions = []
    if scheme.region_code and scheme.region_code != own[1]:
        regions.append(Concept(scheme.region_code.value, "SCT", scheme.region_code.meaning))
    return highdicom.seg.SegmentDescription(
        segment_number=value,
        segment_label=scheme.names[value][:_LONGEST_LABEL],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        anatomic_regions=regions or None,
        display_color=highdicom.color.CIELabColor.from_string(scheme.color(value)),
    )


def _paths(series: Series) -> list[Path]:
    """List the files of the slices, in the order of their place; one of each that is doubled."""
    return list(dict.fromkeys(images[0].path for images in series.stack.slices))


def _frames(series: Series, label: np.ndarray) -> np.ndarray:
    """Return the label of each image, (images, rows, columns), in the order of files and frames."""
    stack = series.stack
    header = stack.grid.header
    assert header is not None
    in_file_order = header.to_file(label)
    rows, columns = stack.slices[0][0].shape
    paths = _paths(series)
    images = [
        (image, number)
        for number, images in enumerate(stack.slices)
        for image in images
        if image.path in paths
    ]
    images.sort(key=lambda item: (paths.index(item[0].path), item[0].frame))
    frames = np.zeros((len(images), rows, columns), np.uint8)
    for frame, (_, number) in zip(frames, images, strict=True):
        column, row = stack.offsets[number]
        frame[:] = in_file_order[column : column + columns, row : row + rows, number].T
    return frames


def _source(series: Series, path: Path) -> Any:
    """Read the header of an image that a SEG refers to, with what the standard wants in it."""
    header = _read(series, path)
    for name in _EXPECTED:
        if name not in header:
            setattr(header, name, None)
    return header


def _read(series: Series, path: Path, **options: Any) -> Any:
    with _naming(series):
        return read_dataset(path, series, stop_before_pixels=True, **options)


@contextmanager
def _naming(series: Series) -> Iterator[None]:
    """Turn what pydicom and highdicom raise into one line that names the series."""
    try:
        yield
    except InputError:
        raise
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{series}: no DICOM SEG can be made of it ({first_line(error)}); predict without "
            "--dicom-seg"
        ) from None
