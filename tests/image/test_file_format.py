"""Formats by content, NIfTI names without case, and what is passed over."""

import bz2
import gzip
import lzma
import zipfile

import nibabel
import pytest
from nifti_files import canonical_array, refusal, save

from kitsjax.image.file_format import (
    NIFTI_1,
    advise_folder,
    find_nifti,
    list_nifti,
    list_unused,
    nifti_stem,
    note_passed_over,
    tell_format,
)
from kitsjax.image.read_nifti import read_label, read_volume

CONTENT = {
    "DICOM": (bytes(128) + b"DICM" + bytes(600), "convert the series with dcm2niix"),
    "bzip2": (bz2.compress(bytes(1000)), "bunzip2"),
    "xz": (lzma.compress(bytes(1000)), "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(30), "unzstd"),
    "HTML": (b"\n<!DOCTYPE html><html>Sign in</html>", "download the file again"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "Analyze 7.5": ((348).to_bytes(4, "big") + bytes(344), "convert the .hdr and .img"),
    "half of a NIfTI pair": (bytes(344) + b"ni1\0", "convert the .hdr and .img"),
    "empty": (b"", "get the file again"),
    "unknown format": (b"patient 21: no image", "give a complete .nii.gz"),
}


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("packed", [False, True])
def test_other_formats_say_what_to_do(tmp_path, name, packed):
    content, advice = CONTENT[name]
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    for read in (read_volume, read_label):
        message = refusal(read, path)
        assert message.startswith(f"{path}: not a readable NIfTI file ({name}); ")
        assert advice in message


def test_zip_archives_say_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "image.nii.gz", "w") as archive:
        archive.writestr("image.nii", "x")
    assert "(zip); unpack it" in refusal(read_volume, tmp_path / "image.nii.gz")


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
def test_nifti_is_told_by_its_magic(tmp_path, kind):
    save(tmp_path / "image.nii", canonical_array(), kind=getattr(nibabel, kind))
    start = (tmp_path / "image.nii").read_bytes()[:540]
    assert tell_format(start) == kind.replace("Image", "").replace("Nifti", "NIfTI-")
    if kind == "Nifti1Image":
        # A broken header size does not matter beside a right magic string.
        assert tell_format(bytes(4) + start[4:]) == NIFTI_1


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii", "a"), ("A.NII.GZ", "A"), ("b.Nii.gZ", "b"), ("a.nii.bz2", None), ("a.gz", None),
        ("a.b.nii.gz", "a.b"), ("nii.gz", None),
    ],
)  # fmt: skip
def test_suffixes_are_compared_without_case(name, stem):
    assert nifti_stem(name) == stem


def test_folders_are_listed_without_case(tmp_path):
    for name in ("b.NII.GZ", "a.nii", "c.dcm", ".d.nii", "e.nii.bz2"):
        (tmp_path / name).touch()
    (tmp_path / "f.nii").mkdir()
    assert [path.name for path in list_nifti(tmp_path)] == ["a.nii", "b.NII.GZ"]
    assert find_nifti(tmp_path, "B") == tmp_path / "b.NII.GZ"
    assert find_nifti(tmp_path, "c") is None
    (tmp_path / "B.nii").touch()
    assert find_nifti(tmp_path, "B") == tmp_path / "b.NII.GZ"
    (tmp_path / "B.nii.gz").touch()
    assert find_nifti(tmp_path, "B") == tmp_path / "B.nii.gz"
    assert list_nifti(tmp_path / "absent") == []


def test_what_is_passed_over_is_named(tmp_path, caplog):
    for name in ("a.nii", ".hidden", *(f"{i}.txt" for i in range(6))):
        (tmp_path / name).touch()
    (tmp_path / "0.txt").write_bytes(CONTENT["DICOM"][0])
    note_passed_over(tmp_path, [tmp_path / "a.nii"])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: passed over 6 files: 0.txt (DICOM), 1.txt, 2.txt, 3.txt, 4.txt and 1 more"
    )
    note_passed_over(tmp_path, list(tmp_path.iterdir()))
    assert len(caplog.records) == 1


def test_unused_files_of_used_folders_are_listed(tmp_path):
    """A folder that holds a used file is looked into; one that is used, or of no use, is not."""
    for name in ("a/b/1.nii", "a/b/2.nii", "a/3.nii", "c/4.nii", "d/5.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    used = [tmp_path / name for name in ("a/b/1.nii", "c", "c/4.nii", "gone/6.nii")]
    assert list_unused(tmp_path, used) == [tmp_path / n for n in ("a/3.nii", "a/b/2.nii", "d")]
    assert list_unused(tmp_path, [*used, tmp_path / "a", tmp_path / "d"]) == []


def test_a_folder_that_may_not_be_listed(user_folder):
    """Its files may be read all the same, and nothing in it is called unused."""
    (user_folder / "a").mkdir()
    (user_folder / "a" / "1.nii").touch()
    (user_folder / "a").chmod(0o311)
    assert list_unused(user_folder, [user_folder / "a" / "1.nii"]) == []


def test_folders_of_dicom_say_what_to_do(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(CONTENT["DICOM"][0])
    assert "0 is DICOM: convert the series with dcm2niix" in refusal(read_volume, tmp_path)
    (tmp_path / "empty").mkdir()
    assert advise_folder(tmp_path / "empty") == ""
    assert "is a folder; give a NIfTI file" in refusal(read_volume, tmp_path / "empty")
