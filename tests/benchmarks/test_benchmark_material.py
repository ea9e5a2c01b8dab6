"""What the benchmark's parts read: made once, of the shape asked for, a patient's label on it."""

import nibabel as nib
import numpy as np

from benchmarks.material import case_with_slices, fit, make_cases, make_ct
from kitsjax.data.kits import find_cases
from kitsjax.image.read_nifti import read_label, read_volume

SHAPE, SPACING_MM = (70, 24, 32), (3.0, 1.5, 1.5)


def test_an_array_is_cut_to_its_middle_or_mirrored_beyond_its_borders():
    line = np.arange(3)[:, None, None]

    assert fit(line, (7, 1, 1)).ravel().tolist() == [1, 0, 0, 1, 2, 2, 1]
    assert fit(line, (1, 1, 1)).ravel().tolist() == [1]
    assert fit(line, (3, 2, 1)).tolist() == np.broadcast_to(line, (3, 2, 1)).tolist()


def test_a_ct_has_the_shape_and_spacing_asked_for_and_an_organ_in_its_label(tmp_path):
    make_ct(tmp_path / "ct.nii.gz", SHAPE, SPACING_MM, label=tmp_path / "label.nii.gz")

    image, label = read_volume(tmp_path / "ct.nii.gz"), read_label(tmp_path / "label.nii.gz")
    assert nib.load(tmp_path / "ct.nii.gz").get_data_dtype() == np.int16
    assert image.array.shape == label.array.shape == SHAPE
    np.testing.assert_allclose(image.spacing_mm, SPACING_MM, rtol=1e-6)
    assert image.array.min() < -900  # air
    kidney, outside = (image.array[label.array == value] for value in (1, 0))
    assert kidney.mean() > outside.mean() + 100


def test_a_ct_is_made_once_and_anew_only_with_another_shape(tmp_path):
    path = tmp_path / "ct.nii.gz"
    make_ct(path, SHAPE)
    first = path.stat().st_mtime_ns, path.read_bytes()

    make_ct(path, SHAPE)
    assert path.stat().st_mtime_ns == first[0]

    make_ct(path, (30, 24, 24))
    assert nib.load(path).shape == (30, 24, 24)
    make_ct(path, SHAPE)
    assert path.read_bytes() == first[1]


def test_a_case_is_chosen_by_its_slices():
    assert case_with_slices(5.0, 24).spacing_mm[0] == 5.0
    assert case_with_slices(3.0, 24).spacing_mm[0] == 3.0


def test_cases_of_another_size_do_not_collide(tmp_path):
    few, coarse = make_cases(tmp_path, 1, 16), make_cases(tmp_path, 2, 24)

    assert [len(find_cases(root)) for root in (few, coarse)] == [1, 2]
    assert few != coarse
