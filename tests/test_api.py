"""The names that `import kitsjax` offers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kitsjax
from kitsjax import labels
from kitsjax.errors import InputError
from kitsjax.image.volume import Grid

ROOT = Path(__file__).parents[1]


def test_importing_loads_nothing_but_itself():
    code = "import sys, kitsjax; sys.exit(bool({'jax', 'numpy', 'nibabel'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_documented():
    assert set(kitsjax.__all__) == set(kitsjax._MODULES)
    assert set(kitsjax.__all__) <= set(dir(kitsjax))
    for name in kitsjax.__all__:
        assert getattr(kitsjax, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        _ = kitsjax.segmnt


def test_the_readme_uses_names_that_exist():
    used = set(re.findall(r"\bkj\.(\w+)", (ROOT / "README.md").read_text()))
    assert used
    assert used <= set(kitsjax.__all__)


def test_wrong_arguments_say_what_is_wrong(tmp_path):
    model = kitsjax.load_model(ROOT / "notebooks" / "phantom.safetensors")
    array = np.zeros((8, 9, 10), np.float32)
    for bad in (np.nan, np.inf):
        array[3, 4, 5] = bad
        with pytest.raises(kitsjax.InputError, match="not finite"):
            kitsjax.segment(model, kitsjax.make_volume(array, (3, 1, 1)))
    with pytest.raises(kitsjax.InputError, match="correct the spacing"):
        kitsjax.segment(model, kitsjax.make_volume(array, (10_000,) * 3))
    for spacing_mm in ((0, 1, 1), (-1, 1, 1), (np.nan, 1, 1), (1, 1)):
        with pytest.raises(ValueError, match="three positive lengths"):
            kitsjax.make_volume(array, spacing_mm)
    with pytest.raises(ValueError, match="three axes"):
        kitsjax.make_volume(array[0], (1, 1, 1))
    kitsjax.write_volume(tmp_path / "a.nii.gz", kitsjax.make_volume(array, (3, 1, 1)))
    with pytest.raises(kitsjax.InputError, match=r"a\.nii\.gz: holds no DICOM, so there is no ser"):
        kitsjax.read_volume(tmp_path / "a.nii.gz", series="3")
    assert len(repr(model)) < 500


WRONG_TYPES = """
import sys, numpy as np, kitsjax as kj
model = kj.load_model(sys.argv[1])
array = np.zeros((8, 9, 10), np.float32)
volume = kj.make_volume(array, (3, 1, 1))
for call, said in (
    (lambda: kj.segment(model, array), "segment takes a volume"),
    (lambda: kj.segment(model, "scan.nii.gz"), "segment takes a volume"),
    (lambda: kj.preprocess(array, model.preprocess), "preprocess takes a volume; make it with"),
    (lambda: kj.preprocess(volume, model), "settings are PreprocessSettings, such as model.pre"),
    (lambda: kj.write_volume("x.nii", array, "scan.nii.gz"), "a reference is the header of a vol"),
    (lambda: kj.segment("runs/phantom", volume), "a model is what load_model returns"),
    (lambda: kj.segment(None, volume), "a model is what load_model returns, not NoneType"),
    (lambda: kj.probabilities(model, volume), "an image is"),
    (lambda: kj.probabilities(model, array[0]), "an image is"),
    (lambda: kj.probabilities(model, array.astype(int)), "an image is"),
):
    try:
        call()
    except TypeError as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)
"""


def test_wrong_types_are_told_what_to_give():
    # In a process of its own, without the tests' checks of annotations, as a reader has it.
    bundle = ROOT / "notebooks" / "phantom.safetensors"
    subprocess.run([sys.executable, "-c", WRONG_TYPES, str(bundle)], check=True)


def test_score_refuses_what_are_no_label_maps():
    label = np.zeros((9, 10, 11), np.uint8)
    for wrong in (label[None], label[0], label > 0, label.astype(float), label + np.uint8(7),
                  label[:0]):  # fmt: skip
        with pytest.raises(ValueError, match="a label map is"):
            kitsjax.score(wrong, wrong, (1, 1, 1))
    with pytest.raises(ValueError, match="three positive lengths"):
        kitsjax.score(label, label, (0, 1, 1))


def test_volume_without_file_keeps_its_affine(tmp_path):
    made = kitsjax.make_volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), (3, 1, 2))
    affine = made.affine.copy()
    affine[:3, 3] = 5, -6, 7
    volume = kitsjax.Volume(made.array, Grid(made.shape, made.spacing_mm, affine))
    kitsjax.write_volume(tmp_path / "v.nii.gz", volume)
    read = kitsjax.read_volume(tmp_path / "v.nii.gz")
    np.testing.assert_array_equal(read.array, volume.array)
    np.testing.assert_allclose(read.affine, affine)


def test_score_takes_arrays_and_volumes():
    label = np.zeros((9, 10, 11), np.uint8)
    label[2:7, 2:7, 2:7] = labels.KIDNEY
    label[4:6, 4:6, 4:6] = labels.TUMOR
    moved = np.roll(label, 1, 2)
    found = kitsjax.score(moved, label, (3, 1, 1))
    assert set(found) == set(labels.KITS.evaluation_keys)
    # Of five columns of voxels four are shared, of two of the tumor one.
    assert found["kidney_and_mass"].dice == pytest.approx(4 / 5)
    assert found["tumor"].dice == pytest.approx(1 / 2)
    assert found["tumor"].truth_cm3 == pytest.approx(8 * 3 / 1000)
    volumes = [kitsjax.make_volume(array, (3, 1, 1)) for array in (moved, label)]
    assert kitsjax.score(*volumes) == found
    with pytest.raises(InputError, match="spacing"):
        kitsjax.score(volumes[0], kitsjax.make_volume(label, (3, 1, 2)))
    with pytest.raises(ValueError, match="spacing_mm of arrays"):
        kitsjax.score(moved, label)
    with pytest.raises(ValueError, match="one shape"):
        kitsjax.score(moved[1:], label, (3, 1, 1))
