"""NRRD and MetaImage files give the same volume as the NIfTI file that SimpleITK writes of it."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from nifti_files import SHAPE, canonical_array, label_array, refusal

from kitsjax.image import stored_voxels
from kitsjax.image.read_nifti import check_whole, read_grid, read_label, read_volume
from kitsjax.image.volume import check_same_grid
from kitsjax.image.write_nifti import write_label

sitk = pytest.importorskip("SimpleITK", reason="the extra itk is not installed")

ANGLE = 0.3
DIRECTIONS = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "flipped": (-1, 0, 0, 0, 1, 0, 0, 0, -1),
    "oblique": (
        np.cos(ANGLE), -np.sin(ANGLE), 0, np.sin(ANGLE), np.cos(ANGLE), 0, 0, 0, 1
    ),
}  # fmt: skip
NAMES = ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "A.NRRD"]


def make_image(array, direction="axial"):
    """Make an image of SimpleITK's from an array (z, y, x)."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((10.0, -20.0, 30.5))
    image.SetDirection([float(value) for value in DIRECTIONS[direction]])
    return image


def write(path, image, packed=True):
    # SimpleITK chooses the format by the suffix, in lower case.
    lower = path.with_name(path.name.lower())
    sitk.WriteImage(image, str(lower), packed)
    return lower.rename(path)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_volume_is_that_of_its_nifti(tmp_path, name, direction):
    image = make_image(canonical_array(), direction)
    nifti = read_volume(write(tmp_path / "a.nii.gz", image))
    path = write(tmp_path / name, image)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, nifti.array, strict=True)
    np.testing.assert_allclose(volume.affine, nifti.affine, rtol=0, atol=1e-5)
    assert volume.spacing_mm == pytest.approx(nifti.spacing_mm, rel=1e-6)
    check_same_grid(volume.grid, nifti.grid)
    check_same_grid(read_grid(path), nifti.grid)
    check_whole(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_the_format_is_told_once(tmp_path, monkeypatch, name):
    """By the first bytes of the file, when its header is read."""
    path, told = write(tmp_path / name, make_image(label_array())), []
    read = stored_voxels.read_start
    monkeypatch.setattr(stored_voxels, "read_start", lambda file: told.append(file) or read(file))
    assert read_label(path).shape == SHAPE
    assert told == [path]


def test_the_world_is_right_anterior_superior(tmp_path):
    """By hand: ITK's origin (10, -20, 30.5) is 10 mm left and 20 mm anterior of the world's."""
    array = np.zeros(SHAPE, np.int16)
    array[0, 0, 0] = 7
    volume = read_volume(write(tmp_path / "a.nrrd", make_image(array)))
    index = [*np.argwhere(volume.array == 7)[0], 1]
    np.testing.assert_allclose(volume.affine @ index, (-10, 20, 30.5, 1))
    index[2] += 1
    # The canonical x axis points left.
    np.testing.assert_allclose(volume.affine @ index, (-10.5, 20, 30.5, 1))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int32", "int64", "float32", "float64"]
)
def test_any_type_of_voxels_is_read(tmp_path, dtype):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    for name in ("a.nrrd", "a.mha"):
        volume = read_volume(write(tmp_path / name, make_image(array), packed=False))
        assert sorted(volume.array.ravel()) == sorted(array.ravel().astype(np.float32))


def test_labels_are_read_and_written_beside(tmp_path):
    """A mask written for a NRRD file lies on its grid, for SimpleITK, too."""
    image = make_image(label_array(), "oblique")
    path = write(tmp_path / "a.nrrd", image)
    label = read_label(path)
    write_label(tmp_path / "mask.nii.gz", label, label.header)
    again = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again), label_array())
    np.testing.assert_allclose(again.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(again.GetOrigin(), image.GetOrigin(), atol=1e-5)
    write(tmp_path / "b.mha", make_image(label_array() + 3))
    assert "label values 4, 5, 6 are not among" in refusal(read_label, tmp_path / "b.mha")


def test_the_content_decides_not_the_name(tmp_path):
    expected = read_volume(write(tmp_path / "a.nii.gz", make_image(canonical_array())))
    for source, name in (("a.nrrd", "nrrd.nii.gz"), ("a.mha", "meta"), ("a.nii", "nifti.nrrd")):
        path = write(tmp_path / source, make_image(canonical_array())).rename(tmp_path / name)
        np.testing.assert_array_equal(read_volume(path).array, expected.array)


def test_older_metaimages_begin_with_ndims(tmp_path):
    path = write(tmp_path / "a.mha", make_image(canonical_array()), packed=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ObjectType = Image\n", b"", 1))
    assert path.read_bytes().startswith(b"NDims")
    assert read_volume(path).shape == SHAPE


def test_a_nrrd_without_a_space_is_noted(tmp_path, caplog):
    head = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nspacings: 0.5 0.75 3\n"
    voxels = canonical_array().astype("<i2").tobytes()
    path = tmp_path / "a.nrrd"
    path.write_bytes(head + b"endian: little\nencoding: raw\n\n" + voxels)
    volume = read_volume(path)
    assert volume.spacing_mm == (3.0, 0.75, 0.5)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: does not say how the patient lies")
    assert "assumed to point to LPS" in message
    caplog.clear()
    read_volume(write(tmp_path / "b.nrrd", make_image(canonical_array())))
    assert caplog.messages == []


def damage(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_files_are_one_line(tmp_path, name, packed):
    path = write(tmp_path / name, make_image(canonical_array()), packed)
    damage(path)
    kind = "NRRD" if name == "a.nrrd" else "MetaImage"
    message = refusal(read_volume, path)
    assert message.startswith(f"{path}: damaged or not a readable {kind} file (")
    assert message.endswith("; get the file again")
    assert "0x" not in message


def test_headers_alone_are_refused(tmp_path):
    for name, content in (
        ("a.nrrd", b"NRRD0004\ntype: short\n"), ("a.mha", b"ObjectType = Image\nNDims = 3\n"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        for read in (read_volume, read_label):
            assert str(tmp_path / name) in refusal(read, tmp_path / name)


def test_what_is_no_volume_is_refused(tmp_path):
    vector = sitk.GetImageFromArray(np.zeros((*SHAPE, 3), np.uint8), isVector=True)
    flat = sitk.GetImageFromArray(np.zeros(SHAPE[1:], np.uint8))
    several = sitk.GetImageFromArray(np.zeros((2, *SHAPE), np.uint8), isVector=False)
    for image, expected in (
        (vector, "voxels are vector of 8-bit unsigned integer; give real numbers"),
        (flat, "shape (7, 6) is not that of a 3-D volume"),
        (several, "is not that of a 3-D volume; give one volume"),
    ):
        path = tmp_path / "a.mha"
        sitk.WriteImage(image, str(path))
        assert expected in refusal(read_volume, path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.nrrd", b"(0.5,0,0)", b"(0,0,0)"),
        ("a.mha", b"ElementSpacing = 0.5", b"ElementSpacing = 0"),
        ("a.mha", b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 1 0 0"),
    ],
)
def test_axes_without_a_volume_are_refused(tmp_path, name, old, new):
    content = write(tmp_path / name, make_image(canonical_array()), packed=False).read_bytes()
    assert content.count(old) == 1
    (tmp_path / name).write_bytes(content.replace(old, new))
    for read in (read_volume, read_grid, check_whole):
        assert "is not usable; correct the header" in refusal(read, tmp_path / name)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_without_the_extra_a_line_names_it(tmp_path, monkeypatch, name):
    path = write(tmp_path / name, make_image(canonical_array()))

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr("kitsjax.image.itk.import_module", absent)
    message = refusal(read_volume, path)
    assert "and SimpleITK is not installed; install what reads it" in message
    assert "'kitsjax[itk]'" in message


def test_a_packed_nrrd_is_to_be_unpacked(tmp_path):
    path = write(tmp_path / "a.nrrd", make_image(canonical_array()))
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "not a readable NIfTI file (NRRD); unpack it with gunzip" in refusal(read_volume, path)


def test_a_mask_of_a_nrrd_has_its_axes(tmp_path):
    """The file's own order of axes stays, as for NIfTI."""
    path = write(tmp_path / "a.nrrd", make_image(label_array(), "coronal"))
    label = read_label(path)
    write_label(tmp_path / "mask.nii.gz", label, label.header)
    assert nib.load(tmp_path / "mask.nii.gz").shape == (7, 6, 5)
