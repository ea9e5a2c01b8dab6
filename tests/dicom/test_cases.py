"""Which series of a DICOM folder is taken, what is said of the others, and no patient's name."""

import subprocess
import sys

import pytest
from dicom_files import new_dataset, positions, random_hu, write_enhanced, write_series
from nifti_files import refusal
from pydicom import dcmread
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, RawDataStorage

from kitsjax import read_volume
from kitsjax.dicom.cases import find_dicom


def chosen(path, label=None):
    """The series' description and the mask's name of each case."""
    return [(series.first.description, name) for series, name in find_dicom(path, label)]


CORONAL = (1, 0, 0, 0, 0, -1)
OTHERS = {
    "bone": {"ConvolutionKernel": "BONE"},
    "Siemens' sharp kernel": {"ConvolutionKernel": ["Br64f", "3"]},
    "Canon's sharp kernel": {"ConvolutionKernel": "FC52"},
    "lung": {"SeriesDescription": "Thorax LUNG 1.0"},
    "derived": {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
    "coronal": {"orientation": CORONAL},
    "gap": {"places": positions(9)[[0, 1, 2, 3, 4, 5, 6, 8]]},
    "fewer": {"array": random_hu((3, 10, 12))},
    "topogram": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "MR": {"Modality": "MR"},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("number", [1, 3])
def test_the_most_plausible_series_is_taken(tmp_path, name, number):
    """Whatever the number of the other series, which has as many slices or more."""
    write_series(tmp_path / "a", SeriesDescription="right")
    other = {"array": random_hu((8, 10, 12)), "SeriesDescription": "wrong", **OTHERS[name]}
    write_series(tmp_path / "b", uid="other", SeriesNumber=number, **other)
    assert chosen(tmp_path) == [("right", tmp_path.name)]


def test_series_are_listed_and_chosen(tmp_path, caplog):
    write_series(tmp_path / "x", SeriesDescription="Topogram", SeriesNumber=1, uid="1",
                 ImageType=["LOCALIZER"], ConvolutionKernel=None)  # fmt: skip
    write_series(tmp_path / "x", SeriesDescription="portal venous", SeriesNumber=2, uid="2",
                 order=range(10, 16))  # fmt: skip
    (tmp_path / "y").mkdir()
    write_series(tmp_path / "y", SeriesDescription="lung", SeriesNumber=10, uid="3",
                 ConvolutionKernel="Bl57f")  # fmt: skip
    assert chosen(tmp_path) == [("portal venous", tmp_path.name)]
    assert caplog.messages == [
        f'{tmp_path}: series 1: "Topogram", 6 images, localizer',
        f'{tmp_path}: series 2: "portal venous", kernel Br38f, 6 slices of 3 mm',
        f'{tmp_path}: series 10: "lung", kernel Bl57f, 6 slices of 3 mm',
        f"{tmp_path}: took series 2 of 3, as the most plausible; --series takes another",
    ]
    caplog.clear()
    uid = dcmread(tmp_path / "y" / "IM0000").SeriesInstanceUID
    for label in ("10", uid):
        assert chosen(tmp_path, label) == [("lung", tmp_path.name)]
    assert caplog.messages[-1] == f"{tmp_path}: took series 10 of 3, as asked"
    assert read_volume(tmp_path, series="10").header.path == f"{tmp_path}: series 10"
    message = refusal(read_volume, tmp_path, series="7")
    assert message == f"{tmp_path}: no series is 7; give --series one of 1, 2, 10"


def test_series_of_one_number_have_uids(tmp_path):
    for uid in ("1", "2"):
        write_series(tmp_path / uid, SeriesDescription=uid, uid=uid)
    message = refusal(read_volume, tmp_path, series="2")
    uids = sorted(dcmread(tmp_path / uid / "IM0000").SeriesInstanceUID for uid in ("1", "2"))
    assert message == f"{tmp_path}: 2 series are 2; give --series one of {', '.join(uids)}"
    for path in tmp_path.rglob("IM*"):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = dataset.SeriesNumber = None
        dataset.save_as(path)
    assert sorted(chosen(tmp_path, label)[0][0] for label in ("#1", "#2")) == ["1", "2"]


def test_cases_are_studies_or_folders(tmp_path):
    """Folders of one study are one case; folders of several are a case each, named after it."""
    folder = tmp_path / "in"
    write_series(folder / "study" / "a", uid="1", SeriesDescription="a", StudyInstanceUID="1.2")
    write_series(folder / "study" / "b", random_hu((8, 10, 12)), uid="2", SeriesNumber=3,
                 SeriesDescription="b", StudyInstanceUID="1.2")  # fmt: skip
    assert chosen(folder) == [("b", "in")]
    assert chosen(folder / "study") == [("b", "study")]
    assert chosen(folder / "study" / "a") == [("a", "a")]
    write_series(folder / "blank", uid="3", SeriesDescription="c", StudyInstanceUID="")
    assert chosen(folder) == [("c", "blank"), ("b", "study")]
    assert "holds 2 cases; give the folder of one" in refusal(read_volume, folder)
    write_enhanced(folder / "other" / "deep" / "ct.dcm")
    assert chosen(folder / "other" / "deep" / "ct.dcm") == [("Abdomen", "ct")]
    assert [name for _, name in chosen(folder)] == ["blank", "other", "study"]


def test_other_objects_are_no_series(tmp_path):
    """Reports, and the index of a disc, hold no images."""
    write_series(tmp_path / "ct")
    report = new_dataset(EncapsulatedPDFStorage, "report", "reports")
    report.Modality = "DOC"
    report.save_as(tmp_path / "ct" / "report", enforce_file_format=True)
    (tmp_path / "ct" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "ct" / "notes.txt").write_text("nothing")
    assert chosen(tmp_path / "ct") == [("Abdomen", "ct")]
    only = tmp_path / "only"
    only.mkdir()
    (tmp_path / "ct" / "report").rename(only / "report")
    assert refusal(find_dicom, only).endswith("no images in its 1 DICOM files; give a CT series")
    assert find_dicom(tmp_path / "absent") == []


def test_raw_data_beside_a_ct_is_passed_over(tmp_path, caplog):
    """It has modality CT and no pixels; a CT whose header is cut short is damaged."""
    for name in ("A", "B"):
        write_series(tmp_path / name, uid=name, StudyInstanceUID=f"1.{ord(name)}")
    raw = new_dataset(RawDataStorage, "raw", "raw")
    raw.preamble, raw.file_meta.MediaStorageSOPClassUID = bytes(128), RawDataStorage
    raw.save_as(tmp_path / "raw.dcm")
    for name in ("dicomdir", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    assert [name for _, name in find_dicom(tmp_path)] == ["A", "B"]
    assert not caplog.messages
    for storage in (CTImageStorage, ""):
        raw.file_meta.MediaStorageSOPClassUID = raw.SOPClassUID = storage
        raw.save_as(tmp_path / "raw.dcm")
        assert len(find_dicom(tmp_path)) == 3


def test_a_file_keeps_what_is_no_suffix(tmp_path):
    """Names are often UIDs, of which the last number tells one image from another."""
    names = {"1.2.840.5": "1.2.840.5", "1.2.840.6": "1.2.840.6", "ct.1.IMA": "ct.1",
             "b.Dicom": "b", ".dcm": ".dcm"}  # fmt: skip
    for name, expected in names.items():
        path = write_enhanced(tmp_path / name)
        assert [case for _, case in find_dicom(path)] == [expected]


def test_a_file_without_frames_is_left_out(tmp_path, caplog):
    """The list of its frames is there, but empty."""
    path = write_enhanced(tmp_path / "in" / "ct.dcm")
    dataset = dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = []
    dataset.save_as(path)
    assert "its images are without frames; give a CT" in refusal(read_volume, path)
    write_series(path.parent, SeriesNumber=3)
    assert chosen(path.parent, "3") == [("Abdomen", "in")]
    assert f'{path.parent}: series 2: "Abdomen", kernel Br38f, 1 image, without frames' in (
        caplog.messages
    )


def test_one_slice_is_no_volume(tmp_path):
    paths = write_series(tmp_path / "ct")
    assert "its images lie at one place; give the whole series" in refusal(read_volume, paths[0])


NAMED = {
    "study": ({"StudyInstanceUID": "1.2.3"}, "1.2.3"),
    "series": ({"SeriesInstanceUID": "1.2.4", "StudyInstanceUID": ""}, "1.2.4"),
    "blank": ({"SeriesInstanceUID": "", "StudyInstanceUID": ""}, "dicom"),
    "pseudonym": ({"PatientName": "MUSTER_ERIKA", "PatientID": "MUSTER_ERIKA"}, "Erika_MUSTER"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_no_name_of_a_patient_is_told(tmp_path, caplog, kind):
    """A folder that is named after the patient gives way; an ID that is also the name stays."""
    attributes, expected = NAMED[kind]
    text = "Abdomen of Erika"
    write_series(tmp_path / "Erika_MUSTER", SeriesDescription=text, **attributes)
    write_series(tmp_path / "other", uid="2", StudyInstanceUID="1.9", SeriesDescription=text)
    cases = find_dicom(tmp_path)
    assert [name for _, name in cases] == [expected, "other"]
    assert '"(name withheld)"' in cases[1][0].describe()
    (tmp_path / "Erika_MUSTER" / "IM0003").unlink()
    series, _ = find_dicom(tmp_path)[0]
    message = refusal(read_volume, series)
    assert message.startswith(f"{tmp_path / expected}: series 2: 1 slice is missing")


def test_two_folders_of_a_name_and_a_study(tmp_path):
    for name, study in (("Muster_1", "1.2"), ("Muster_2", "1.2"), ("other", "1.3")):
        write_series(tmp_path / name, uid=name, StudyInstanceUID=study)
    uids = [dcmread(tmp_path / f"Muster_{n}" / "IM0000").SeriesInstanceUID for n in (1, 2)]
    cases = find_dicom(tmp_path)
    assert [name for _, name in cases] == [*uids, "other"]
    assert [series.place for series, _ in cases] == [str(tmp_path / name) for _, name in cases]


def test_a_folder_that_cannot_be_read_fails(tmp_path):
    """Alone, and without its name, which may be the patient's."""
    for name in ("a", "Muster", "z"):
        write_series(tmp_path / name, uid=name, StudyInstanceUID=f"1.{ord(name[0])}")
    for path in (tmp_path / "Muster").iterdir():
        path.write_bytes(path.read_bytes()[:300])
    good, other, (lost, _) = find_dicom(tmp_path)
    assert [good[1], other[1]] == ["a", "z"]
    assert refusal(read_volume, lost) == (
        f"{tmp_path}: folder 1 of 3 by name: 6 of 6 DICOM files cannot be read; get them again"
    )


def test_warnings_do_not_quote_a_file(tmp_path):
    """pydicom would quote an unusual value, which may hold a name, in a warning of Python."""
    import pydicom

    with pydicom.config.disable_value_validation():
        write_series(tmp_path / "ct", StudyInstanceUID="Erika.1")
    code = "import sys, kitsjax; kitsjax.read_volume(sys.argv[1])"
    command = [sys.executable, "-W", "always", "-c", code, tmp_path / "ct"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Erika" not in done.stdout + done.stderr


def test_the_extra_is_named(tmp_path, monkeypatch):
    write_series(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert refusal(read_volume, tmp_path / "ct") == (
        f"{tmp_path / 'ct'}: is DICOM, and pydicom is not installed; install what "
        "reads it: python -m pip install 'kitsjax[dicom]'"
    )
