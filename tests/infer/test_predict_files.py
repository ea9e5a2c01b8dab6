import nibabel
import numpy as np
import pytest
from threshold_model import bright_cube, threshold_model

from kitsjax.errors import InputError
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_volume
from kitsjax.image.write_nifti import write_volume
from kitsjax.infer.predict import segment
from kitsjax.infer.predict_files import find_inputs, predict_files


def test_masks_have_the_grid_of_their_ct(tmp_path):
    """Bad files among the CTs are listed, and the others are written."""
    header = kits_header((20, 30, 30), (3.0, 1.0, 1.0))
    folder, output = tmp_path / "in", tmp_path / "deep" / "out"
    folder.mkdir()
    for name in ("b.nii.gz", "d.nii.gz"):
        write_volume(folder / name, bright_cube(), header)
    (folder / "a.nii.gz").write_text("no NIfTI")
    (folder / "c.nii").write_bytes((folder / "d.nii.gz").read_bytes()[:500])
    (folder / "notes.txt").write_text("no CT")
    model = threshold_model()
    files = find_inputs(folder, output)
    failures = predict_files(model, files, probabilities=True)
    assert [path.name for path, _ in failures] == ["a.nii.gz", "c.nii"]
    assert all(str(path) in message for path, message in failures)
    masks = {"b.nii.gz", "d.nii.gz", "b_probabilities.nii.gz", "d_probabilities.nii.gz"}
    assert {path.name for path in output.iterdir()} == masks
    expected = segment(model, read_volume(folder / "d.nii.gz")).array
    mask = read_volume(output / "d.nii.gz")
    np.testing.assert_array_equal(mask.array, expected)
    np.testing.assert_array_equal(mask.header.nifti["sform_code"], header.nifti["sform_code"])
    np.testing.assert_array_equal(mask.affine, read_volume(folder / "d.nii.gz").affine)
    probabilities = read_probabilities(output / "d_probabilities.nii.gz")
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(-1), expected)


def read_probabilities(path):
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    return np.asanyarray(image.dataobj)


def test_files_that_fail_to_be_written_are_listed(tmp_path):
    source = tmp_path / "ct.nii.gz"
    write_volume(source, bright_cube(), kits_header((20, 30, 30), (3.0, 1.0, 1.0)))
    (tmp_path / "file").write_text("not a folder")
    model = threshold_model()
    failures = predict_files(model, find_inputs(source, tmp_path / "file"))
    assert [path for path, _ in failures] == [source]
    assert (tmp_path / "file").read_text() == "not a folder"


def test_find_inputs_lists_cts_and_their_masks(tmp_path):
    for name in ("kits/case_00001", "kits/case_00000", "flat"):
        (tmp_path / name).mkdir(parents=True)
    cts = [tmp_path / f"kits/case_0000{n}/imaging.nii.gz" for n in (0, 1)]
    flat = [tmp_path / "flat" / name for name in ("a.nii", "b.nii.gz")]
    mask = tmp_path / "kits/case_00000/aggregated_MAJ_seg.nii.gz"
    for path in [*cts, *flat, mask, tmp_path / "flat/._b.nii.gz", tmp_path / "flat/x.txt"]:
        path.touch()
    out = tmp_path / "out"
    masks = [out / f"case_0000{n}.nii.gz" for n in (0, 1)]
    assert find_inputs(tmp_path / "kits", out) == list(zip(cts, masks, strict=True))
    assert find_inputs(cts[0].parent, out) == [(cts[0], masks[0])]
    assert find_inputs(cts[1], out) == [(cts[1], masks[1])]
    link = tmp_path / "links/case_00009/imaging.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(cts[0])
    assert find_inputs(link, out) == [(link, out / "case_00009.nii.gz")]
    assert find_inputs(flat[0], out) == [(flat[0], out / "a.nii.gz")]
    assert find_inputs(tmp_path / "flat", out) == [
        (flat[0], out / "a.nii.gz"),
        (flat[1], out / "b.nii.gz"),
    ]


def test_find_inputs_refuses_clashes(tmp_path):
    """It refuses paths without a CT, two CTs with one mask, and masks that would replace a CT."""
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match="would replace an input"):
        find_inputs(tmp_path / "a.nii.gz", tmp_path)
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="would both be written"):
        find_inputs(tmp_path, tmp_path / "out")
