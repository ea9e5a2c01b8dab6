import nibabel as nib
import numpy as np

from benchmarks import inputs
from benchmarks.inputs import choose_case, fit_to_shape, make_arrays, make_cases, make_ct
from kitsjax.data.kits import find_cases
from kitsjax.image.read_nifti import read_volume

SHAPE, SPACING_MM = (70, 24, 32), (2.0, 1.5, 1.5)


def test_an_array_is_cropped_or_reflected():
    line = np.arange(3)[:, None, None]

    assert fit_to_shape(line, (7, 1, 1)).ravel().tolist() == [1, 0, 0, 1, 2, 2, 1]
    assert fit_to_shape(line, (1, 1, 1)).ravel().tolist() == [1]
    assert fit_to_shape(line, (3, 2, 1)).tolist() == np.broadcast_to(line, (3, 2, 1)).tolist()


def test_a_ct_has_its_shape_spacing_and_organs(tmp_path):
    make_ct(tmp_path / "ct.nii.gz", SHAPE, SPACING_MM)
    _, label = make_arrays(SHAPE, SPACING_MM)

    image = read_volume(tmp_path / "ct.nii.gz")
    assert nib.load(tmp_path / "ct.nii.gz").get_data_dtype() == np.int16
    assert image.array.shape == label.shape == SHAPE
    np.testing.assert_allclose(image.spacing_mm, SPACING_MM, rtol=1e-6)
    assert image.array.min() < -900  # air
    kidney, outside = (image.array[label == value] for value in (1, 0))
    assert kidney.mean() > outside.mean() + 100


def test_a_ct_is_made_once_for_a_shape(tmp_path):
    path = tmp_path / "ct.nii.gz"
    make_ct(path, SHAPE, SPACING_MM)
    first = path.stat().st_mtime_ns, path.read_bytes()

    make_ct(path, SHAPE, SPACING_MM)
    assert path.stat().st_mtime_ns == first[0]

    make_ct(path, (30, 24, 24), SPACING_MM)
    assert nib.load(path).shape == (30, 24, 24)
    make_ct(path, SHAPE, SPACING_MM)
    assert path.read_bytes() == first[1]


def test_a_case_is_chosen_by_its_slices():
    assert choose_case(5.0, 24).spacing_mm[0] == 5.0
    assert choose_case(2.0, 24).spacing_mm[0] == 2.0


def test_the_nearest_slices_are_chosen(monkeypatch):
    monkeypatch.setattr(inputs, "_slice_mm", [5.0, 1.25, 2.0, 1.25].__getitem__)
    monkeypatch.setattr(inputs, "_CANDIDATES", 4)
    monkeypatch.setattr(inputs, "make_case", lambda seed, n, matrix: n)
    assert [choose_case(mm, 24) for mm in (1.0, 1.25, 1.9, 9.0)] == [1, 1, 2, 0]


def test_cases_of_another_size_do_not_collide(tmp_path):
    few, coarse = make_cases(tmp_path, 1, 16), make_cases(tmp_path, 2, 18)

    assert [len(find_cases(root)) for root in (few, coarse)] == [1, 2]
    assert few != coarse
