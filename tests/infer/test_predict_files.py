import nibabel
import numpy as np
from threshold_model import bright_cube, threshold_model

from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_volume
from kitsjax.image.write_nifti import write_volume
from kitsjax.infer.find_inputs import find_inputs
from kitsjax.infer.predict import segment
from kitsjax.infer.predict_files import predict_files


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
