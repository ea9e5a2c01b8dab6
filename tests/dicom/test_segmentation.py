"""Label maps as DICOM SEG: the voxels, names and codes, and the images that it refers to."""

from dataclasses import replace

import numpy as np
import pytest
from dicom_files import (
    HEAD_FIRST_SUPINE,
    positions,
    write_enhanced,
    write_series,
)
from label_schemes import LIVER, ORGANS
from nifti_files import refusal
from pydicom import dcmread

from kitsjax.dicom.cases import find_dicom
from kitsjax.dicom.segmentation import check_referable, convert_mask, segmentation_path
from kitsjax.errors import InputError
from kitsjax.image.write_nifti import write_label
from kitsjax.labels import KITS, Code

hd = pytest.importorskip("highdicom")

TILTED = positions(shift_mm=(0.0, 1.1))


def some_labels(shape):
    label = np.random.default_rng(3).integers(0, 4, shape).astype(np.uint8)
    # A slice without labels has no frame in the file.
    label[2] = 0
    return label


def make_segmentation(folder, tmp_path, label=None, scheme=KITS):
    """Convert a mask of a folder's series; return the mask, and the file and what it says."""
    ((series, _),) = find_dicom(folder)
    grid = series.stack.grid
    label = some_labels(grid.shape) if label is None else label
    mask = tmp_path / "out" / "mask.nii.gz"
    write_label(mask, label, grid.header, description="kitsjax 0123")
    convert_mask(mask, series, scheme)
    return series, label, segmentation_path(mask)


def by_image(seg, uids):
    """The labels of each image (images, rows, columns), as highdicom's reader finds them."""
    return seg.get_pixels_by_source_instance(
        uids,
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


@pytest.mark.parametrize("places", [positions(), TILTED], ids=["straight", "tilted"])
def test_a_segmentation_refers_to_its_images(tmp_path, places):
    paths = write_series(tmp_path / "ct", places=places, order=[3, 1, 0, 5, 2, 4])
    series, label, path = make_segmentation(tmp_path / "ct", tmp_path)
    seg = hd.seg.segread(path)
    found = by_image(seg, [dcmread(p).SOPInstanceUID for p in paths])
    in_file_order = series.stack.grid.header.to_file(label)
    for number, (column, row) in enumerate(series.stack.offsets):
        expected = in_file_order[column : column + 12, row : row + 10, number].T
        np.testing.assert_array_equal(found[number], expected)
    image = dcmread(paths[0])
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert seg.get(name) == image.get(name)
    assert path.name == "mask.seg.dcm"


def test_segments_have_names_and_codes(tmp_path):
    write_series(tmp_path / "ct")
    *_, path = make_segmentation(tmp_path / "ct", tmp_path)
    segments = hd.seg.segread(path).SegmentSequence
    told = [
        (
            s.SegmentNumber, s.SegmentLabel, s.SegmentedPropertyCategoryCodeSequence[0].CodeValue,
            s.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning,
            [r.CodeValue for r in s.get("AnatomicRegionSequence", [])], s.SegmentAlgorithmType,
        )
        for s in segments
    ]  # fmt: skip
    assert told == [
        (1, "kidney", "91723000", "64033007", "Kidney", [], "AUTOMATIC"),
        (2, "tumor", "49755003", "108369006", "Neoplasm", ["64033007"], "AUTOMATIC"),
        (3, "cyst", "49755003", "367643001", "Cyst", ["64033007"], "AUTOMATIC"),
    ]
    colors = [
        hd.color.CIELabColor.from_dicom_value(s.RecommendedDisplayCIELabValue) for s in segments
    ]
    # Kidney red, tumor green, cyst blue.
    assert [int(np.argmax(color.to_rgb())) for color in colors] == [0, 1, 2]


def describe_segments(path):
    return [
        (
            segment.SegmentLabel,
            segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning,
            segment.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            [region.CodeValue for region in segment.get("AnatomicRegionSequence", [])],
        )
        for segment in hd.seg.segread(path).SegmentSequence
    ]


def test_labels_without_codes_are_tissue(tmp_path):
    """Ten labels with names and colors of their own, of which DICOM knows no more."""
    write_series(tmp_path / "ct")
    label = np.random.default_rng(3).integers(0, 11, (6, 10, 12)).astype(np.uint8)
    *_, path = make_segmentation(tmp_path / "ct", tmp_path, label, ORGANS)
    assert describe_segments(path) == [
        (name, "Tissue", "85756007", []) for name in ORGANS.names[1:]
    ]
    seg = hd.seg.segread(path)
    colors = [tuple(s.RecommendedDisplayCIELabValue) for s in seg.SegmentSequence]
    assert colors == [hd.color.CIELabColor.from_string(color).value for color in ORGANS.colors]
    assert seg.ContentLabel == "SEGMENTATION"
    assert dcmread(path).NumberOfFrames == 10 * 6


def test_a_scheme_brings_its_codes(tmp_path):
    organ, mass = Code("91723000", "Anatomical Structure"), Code("49755003", "Abnormal Structure")
    liver = Code("10200004", "Liver")
    codes = (
        (organ, liver),
        (mass, Code("108369006", "Neoplasm")),
        (organ, Code("29092000", "Vein")),
    )
    scheme = replace(
        LIVER, names=("background", "liver", "x" * 99, "vein"), codes=codes, region_code=liver
    )
    write_series(tmp_path / "ct")
    *_, path = make_segmentation(tmp_path / "ct", tmp_path, scheme=scheme)
    assert describe_segments(path) == [
        ("liver", "Anatomical Structure", "10200004", []),
        # A name in DICOM has 64 characters at most.
        ("x" * 64, "Abnormal Structure", "108369006", ["10200004"]),
        ("vein", "Anatomical Structure", "29092000", ["10200004"]),
    ]


def test_a_mask_of_another_scheme_is_refused(tmp_path):
    write_series(tmp_path / "ct")
    with pytest.raises(InputError, match="label values 9 are not among 0, 1, 2, 3"):
        make_segmentation(tmp_path / "ct", tmp_path, np.full((6, 10, 12), 9, np.uint8), LIVER)


def test_frames_of_one_file_are_referred_to(tmp_path):
    order = [3, 1, 0, 5, 2, 4]
    path = write_enhanced(tmp_path / "ct" / "ct.dcm", order=order)
    series, label, written = make_segmentation(path, tmp_path)
    seg, uid = hd.seg.segread(written), dcmread(path).SOPInstanceUID
    found = seg.get_pixels_by_source_frame(
        uid, range(1, 7), combine_segments=True, ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    in_file_order = series.stack.grid.header.to_file(label)
    for frame, number in enumerate(order):
        np.testing.assert_array_equal(found[frame], in_file_order[:, :, number].T)


def test_nothing_found_is_a_whole_file(tmp_path, caplog):
    paths = write_series(tmp_path / "ct")
    *_, path = make_segmentation(tmp_path / "ct", tmp_path, np.zeros((6, 10, 12), np.uint8))
    assert not caplog.messages
    seg = hd.seg.segread(path)
    assert len(seg.SegmentSequence) == 3
    assert not by_image(seg, [dcmread(p).SOPInstanceUID for p in paths]).any()


@pytest.mark.parametrize("orientation", [HEAD_FIRST_SUPINE, (-1, 0, 0, 0, -1, 0)])
def test_simpleitk_opens_it_in_place(tmp_path, orientation):
    """An independent reader finds each voxel at its place in the patient."""
    sitk = pytest.importorskip("SimpleITK")
    write_series(tmp_path / "ct", orientation=orientation)
    # ITK stacks the frames of all segments; those of empty slices are left out.
    label = np.random.default_rng(5).integers(0, 2, (6, 10, 12)).astype(np.uint8)
    series, _, path = make_segmentation(tmp_path / "ct", tmp_path, label)
    image = sitk.ReadImage(path)
    found = sitk.GetArrayFromImage(image) > 0
    assert found.shape == label.shape
    to_index = np.linalg.inv(series.stack.grid.affine)
    for z, y, x in np.ndindex(label.shape):
        world = image.TransformIndexToPhysicalPoint((x, y, z))
        index = to_index @ [-world[0], -world[1], world[2], 1]
        assert found[z, y, x] == label[tuple(np.rint(index[:3]).astype(int))]


def test_a_current_segmentation_stays(tmp_path):
    """Its UID stands for the mask; another, or a damaged one, is written again."""
    write_series(tmp_path / "ct")
    *_, path = make_segmentation(tmp_path / "ct", tmp_path)
    first, uid = path.stat(), dcmread(path).SOPInstanceUID
    make_segmentation(tmp_path / "ct", tmp_path)
    assert path.stat().st_ino == first.st_ino
    path.write_bytes(b"damaged")
    make_segmentation(tmp_path / "ct", tmp_path)
    assert dcmread(path).SOPInstanceUID == uid
    mask = tmp_path / "out" / "mask.nii.gz"
    ((series, _),) = find_dicom(tmp_path / "ct")
    write_label(
        mask, some_labels((6, 10, 12)), series.stack.grid.header, description="kitsjax 4567"
    )
    convert_mask(mask, series, KITS)
    assert dcmread(path).SOPInstanceUID != uid


@pytest.mark.parametrize("name", ["SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_images_without_uids_are_refused(tmp_path, name):
    for path in write_series(tmp_path / "ct"):
        dataset = dcmread(path)
        dataset[name].value = ""
        dataset.save_as(path)
    ((series, _),) = find_dicom(tmp_path / "ct")
    message = refusal(check_referable, series)
    assert (
        f"its images lack {name}, by which a DICOM SEG refers to them; predict without" in message
    )
