"""Small DICOM series, written with pydicom from arrays in HU."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

SHAPE = (6, 10, 12)
"""Slices, rows and columns."""

HEAD_FIRST_SUPINE = (1, 0, 0, 0, 1, 0)

SPACING_MM = (0.75, 0.5)
"""From row to row, and from column to column."""

STEP_MM = 3.0

ORIGIN_MM = (-40.0, 25.0, -300.0)


def random_hu(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def positions(count=SHAPE[0], orientation=HEAD_FIRST_SUPINE, shift_mm=(0.0, 0.0)):
    """The first pixel's place in each slice; each slice is shifted along rows and columns."""
    along, down = np.reshape(orientation, (2, 3)).astype(float)
    step = np.cross(along, down) * STEP_MM + shift_mm[0] * along + shift_mm[1] * down
    return np.array(ORIGIN_MM) + np.arange(count)[:, None] * step


def affine(orientation=HEAD_FIRST_SUPINE, step=None):
    """From (column, row, slice) to RAS+ world, as the standard's equation C.7.6.2.1-1 has it."""
    along, down = np.reshape(orientation, (2, 3)).astype(float)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = along * SPACING_MM[1], down * SPACING_MM[0]
    matrix[:3, 2] = np.cross(along, down) * STEP_MM if step is None else step
    matrix[:3, 3] = ORIGIN_MM
    return np.diag([-1, -1, 1, 1]) @ matrix


def write_series(
    folder,
    array=None,
    *,
    orientation=HEAD_FIRST_SUPINE,
    places=None,
    scaling=(1, -1024),
    order=None,
    syntax=None,
    uid="series",
    **attributes,
):
    """Write a series, one file a slice, of HU (slices, rows, columns); return the paths by slice.

    `scaling` is (slope, intercept), or one for each slice; `order` numbers the files.
    """
    array = random_hu() if array is None else array
    places = positions(len(array), orientation) if places is None else places
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (hu, place) in enumerate(zip(array, places, strict=True)):
        slope, intercept = scaling[number] if isinstance(scaling, list) else scaling
        dataset = new_dataset(CTImageStorage, f"{uid} {number}", uid)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = number + 1
        dataset.ImagePositionPatient = [float(f"{value:.6f}") for value in place]
        dataset.ImageOrientationPatient = [float(f"{value:.8f}") for value in orientation]
        dataset.PixelSpacing = list(SPACING_MM)
        dataset.SliceThickness = STEP_MM
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.RescaleType = "HU"
        set_pixels(dataset, (hu - intercept) / slope)
        for name, value in attributes.items():
            setattr(dataset, name, value)
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        name = number if order is None else order[number]
        paths.append(folder / f"IM{name:04d}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(path, array=None, *, order=None, places=None, scalings=None):
    """Write a multi-frame file of HU (slices, rows, columns); `order` sorts its frames."""
    array = random_hu() if array is None else array
    places = positions(len(array)) if places is None else places
    scalings = scalings or [(1, -1024)] * len(array)
    order = range(len(array)) if order is None else order
    dataset = new_dataset(EnhancedCTImageStorage, "enhanced", "enhanced")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared, frames, stored = Dataset(), [], []
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = list(SPACING_MM)
    shared.PixelMeasuresSequence[0].SliceThickness = STEP_MM
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(HEAD_FIRST_SUPINE)
    for index in order:
        frame, (slope, intercept) = Dataset(), scalings[index]
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = list(map(float, places[index]))
        frame.PixelValueTransformationSequence = [Dataset()]
        value = frame.PixelValueTransformationSequence[0]
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, intercept, "HU"
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].DimensionIndexValues = [1, index + 1]
        frames.append(frame)
        stored.append((array[index] - intercept) / slope)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    set_pixels(dataset, np.array(stored))
    dataset.NumberOfFrames = len(array)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def new_dataset(sop_class, instance, series):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[instance])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame of reference"])
    dataset.Modality = "CT"
    dataset.PatientName, dataset.PatientID = "Muster^Erika", "4711"
    dataset.SeriesNumber, dataset.SeriesDescription = 2, "Abdomen"
    dataset.ConvolutionKernel = "Br38f"
    return dataset


def set_pixels(dataset, stored):
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = np.rint(stored).astype("<i2").tobytes()
