"""Studies are not mixed: each patient of a folder gets a mask, or a message that says why not."""

import shutil

import pytest
from dicom_files import new_dataset, random_hu, write_series
from nifti_files import refusal
from pydicom import dcmread
from pydicom.uid import EncapsulatedPDFStorage

from kitsjax import read_volume
from kitsjax.dicom.cases import find_dicom

SEVERAL = "holds CTs of 2 studies; give the folder of each, or put each in one of its own"


def cases_of(path, label=None):
    """The name of each case, and how many slices it has; None where it holds several studies."""
    return {
        name: None if series.fault.endswith(SEVERAL) else len(series.images)
        for series, name in find_dicom(path, label)
    }


def write_study(folder, name="other", **attributes):
    """Write a series of six slices, of a study of its own."""
    study = f"1.{int.from_bytes(name.encode())}"
    return write_series(folder, **{"uid": name, "StudyInstanceUID": study, **attributes})


@pytest.fixture
def cohort(tmp_path):
    """A folder with a folder for each of three patients."""
    for name in ("A", "B", "C"):
        write_study(tmp_path / "in" / name, name)
    return tmp_path / "in"


def test_a_stray_file_is_a_case_of_its_own(cohort, tmp_path):
    """One file of another patient beside the folders costs none of them its mask."""
    stray = write_study(tmp_path / "other")[0]
    shutil.copy(stray, cohort / "stray.dcm")
    assert cases_of(cohort) == {"in": 1, "A": 6, "B": 6, "C": 6}
    lone = f"{cohort} (files outside its folders): series 2: its images lie at one place"
    assert refusal(read_volume, find_dicom(cohort)[0][0]).startswith(lone)
    # Loose slices of a whole study are a case, and two studies of them one that fails.
    for file in (tmp_path / "other").iterdir():
        shutil.copy(file, cohort / file.name)
    (cohort / "stray.dcm").unlink()
    assert cases_of(cohort) == {"in": 6, "A": 6, "B": 6, "C": 6}
    write_study(cohort, "second", order=range(10, 16))
    assert cases_of(cohort) == {"in": None, "A": 6, "B": 6, "C": 6}


@pytest.mark.parametrize("place", ["B", "."])
def test_a_misplaced_slice_goes_to_its_series(cohort, place):
    """In another patient's folder, or outside all."""
    (cohort / "A" / "IM0000").rename(cohort / place / "x")
    assert cases_of(cohort) == {"A": 6, "B": 6, "C": 6}
    assert read_volume(find_dicom(cohort)[0][0]).array.shape[0] == 6


def test_loose_files_take_no_folders_name(cohort):
    """A folder and a folder in it may have one name."""
    write_study(cohort / "in", "inner")
    write_study(cohort, "loose")
    # The folder itself is listed first, but the folder in it keeps the name.
    assert list(cases_of(cohort)) == ["in_2", "A", "B", "C", "in"]


@pytest.mark.parametrize("label", [None, "2"])
def test_a_case_of_two_studies_fails(tmp_path, label):
    """Also where a series is asked for by its number, which may be that of either study."""
    first = write_study(tmp_path / "flat", "A")[0]
    write_study(tmp_path / "flat", "B", order=range(10, 16), SeriesNumber=3)
    # The UID of a series leaves no doubt.
    assert cases_of(tmp_path / "flat", dcmread(first).SeriesInstanceUID) == {"flat": 6}
    assert cases_of(tmp_path / "flat", label) == {"flat": None}
    assert refusal(read_volume, tmp_path / "flat", label) == f"{tmp_path / 'flat'}: {SEVERAL}"
    # A patient's folder with a folder for each study, beside the folder of another patient.
    for name in ("A", "B"):
        write_study(tmp_path / "in" / "two" / name, name)
    write_study(tmp_path / "in" / "one")
    assert cases_of(tmp_path / "in", label) == {"one": 6, "two": None}
    assert cases_of(tmp_path / "in" / "two", label) == {"A": 6, "B": 6}


def test_a_study_of_no_ct_is_left_out(tmp_path):
    """As an X-ray that was exported with the CT, which no mask could be made of."""
    write_study(tmp_path / "ct", "A")
    write_study(tmp_path / "ct", "B", order=range(10, 16), Modality="CR", SeriesDescription="B")
    assert cases_of(tmp_path / "ct") == {"ct": 6}
    assert find_dicom(tmp_path / "ct")[0][0].first.description == "Abdomen"


def test_a_localizer_is_no_ct_of_another_study(tmp_path):
    """Nor is any other series of that modality without images that make a volume."""
    write_study(tmp_path / "ct", "A")
    localizer = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_study(tmp_path / "ct", "B", order=range(10, 16), ImageType=localizer)
    assert cases_of(tmp_path / "ct") == {"ct": 6}


def test_series_without_a_study_are_of_a_folder(tmp_path):
    """Nothing else tells what belongs together."""
    write_study(tmp_path / "in" / "a" / "x", "a", StudyInstanceUID="")
    assert cases_of(tmp_path / "in") == {"in": 6}
    write_study(tmp_path / "in" / "a" / "x", "b", StudyInstanceUID="", order=range(10, 16))
    assert cases_of(tmp_path / "in") == {"in": 6}
    write_study(tmp_path / "in" / "a" / "y", "c", StudyInstanceUID="")
    assert cases_of(tmp_path / "in") == {"in": None}
    assert cases_of(tmp_path / "in" / "a") == {"x": 6, "y": 6}
    write_study(tmp_path / "loose", "a", StudyInstanceUID="")
    write_study(tmp_path / "loose", "b", order=range(10, 16))
    assert cases_of(tmp_path / "loose") == {"loose": None}


def test_no_name_is_told_of_two_patients(tmp_path):
    """Neither of them, where a folder with the name of the second holds the first, too."""
    folder = tmp_path / "in" / "Muster_Erika"
    write_study(folder, "A", PatientName="Adam^Zacharias")
    write_study(folder, "B", order=range(10, 16))
    write_study(tmp_path / "in" / "one")
    told = [f"{series.place} {series.fault} {name}" for series, name in find_dicom(tmp_path / "in")]
    assert SEVERAL in told[0]
    assert "erika" not in "".join(told).lower()


def test_nameless_folders_have_masks_of_their_own(tmp_path):
    """Of two patients whose names and UIDs are both of no use, none takes the other's mask."""
    for name in ("Muster_1", "Muster_2"):
        write_study(tmp_path / name, name, StudyInstanceUID="", SeriesInstanceUID="")
    assert cases_of(tmp_path) == {"dicom": 6, "dicom_2": 6}


@pytest.mark.parametrize("study", ["one", "two"])
def test_a_lost_folder_keeps_cases_apart(tmp_path, study):
    """The mask of the one that is left must not be named as if it were of all."""
    uids = {"StudyInstanceUID": "1.2"} if study == "one" else {}
    write_study(tmp_path / "A", "A", **uids)
    for path in write_study(tmp_path / "Muster", "B", **uids):
        path.write_bytes(path.read_bytes()[:150])
    good, (lost, _) = find_dicom(tmp_path)
    assert good[1] == "A"
    assert good[0].place == str(tmp_path / "A")
    assert refusal(read_volume, lost) == (
        f"{tmp_path}: folder 2 of 2 by name: 6 of 6 DICOM files cannot be read; get them again"
    )
    assert "holds 2 cases" in refusal(read_volume, tmp_path)


def test_a_report_does_not_save_a_folder(cohort):
    """It can be read, but nothing else of its folder."""
    for path in (cohort / "B").iterdir():
        path.write_bytes(path.read_bytes()[:150])
    report = new_dataset(EncapsulatedPDFStorage, "report", "reports")
    report.Modality = "DOC"
    report.save_as(cohort / "B" / "report", enforce_file_format=True)
    *_, (lost, _) = find_dicom(cohort)
    assert "folder 2 of 3 by name: 6 of 7 DICOM files cannot be read" in lost.fault


def test_damaged_files_outside_folders_are_told(cohort, tmp_path):
    """They may be of another patient; beside the folders of one study they are only counted."""
    damaged = bytes(128) + b"DICM"
    (cohort / "loose").write_bytes(damaged)
    *_, (lost, _) = find_dicom(cohort)
    assert refusal(read_volume, lost) == (
        f"{cohort}: files outside its folders: 1 of 1 DICOM files cannot be read; get them again"
    )
    assert len(find_dicom(cohort)) == 4
    for name in ("a", "b"):
        write_study(tmp_path / "one" / name, name, StudyInstanceUID="1.2")
    (tmp_path / "one" / "loose").write_bytes(damaged)
    assert cases_of(tmp_path / "one") == {"one": 6}


def test_a_split_series_with_a_gap_fails_once(tmp_path):
    """A folder with half a series is not lost because one of its files is."""
    paths = write_study(tmp_path / "in" / "1", array=random_hu((8, 10, 12)))
    (tmp_path / "in" / "2").mkdir()
    for path in paths[4:]:
        path.rename(tmp_path / "in" / "2" / path.name)
    assert cases_of(tmp_path / "in") == {"in": 8}
    (tmp_path / "in" / "2" / "IM0005").write_bytes(bytes(128) + b"DICM")
    assert cases_of(tmp_path / "in") == {"in": 7}
    assert "1 slice is missing" in refusal(read_volume, tmp_path / "in")


def test_what_is_no_dicom_is_counted(cohort, caplog):
    """Without names, which may be patients': folders without preambles, of empty files, of none."""
    for path in (cohort / "B").iterdir():
        path.write_bytes(path.read_bytes()[132:])
    for path in (cohort / "C").iterdir():
        path.write_bytes(b"")
    (cohort / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (cohort / ".hidden").touch()
    assert cases_of(cohort) == {"in": 6}
    assert caplog.messages == [f"{cohort}: passed over folders 2, 3 of 3 by name: no DICOM there"]
    caplog.clear()
    shutil.rmtree(cohort / "B")
    (cohort / "notes.txt").touch()
    find_dicom(cohort)
    (message,) = caplog.messages
    assert message == f"{cohort}: passed over 1 file and folder 2 of 2 by name: no DICOM there"
    caplog.clear()
    for number in range(6):
        (cohort / f"D{number}").mkdir()
    find_dicom(cohort)
    (message,) = caplog.messages
    assert "1 file and folders 2, 3, 4, 5, 6 and 2 more of 8 by name" in message
    caplog.clear()
    find_dicom(cohort / "A")
    find_dicom(cohort / "A" / "IM0000")
    assert not caplog.messages


def test_an_empty_file_is_a_slice_that_is_lost(tmp_path, caplog):
    """An aborted copy may leave the last slices empty, and the volume would be shorter."""
    write_study(tmp_path / "in", order=range(7))
    (tmp_path / "in" / "IM0006").write_bytes(b"")
    assert cases_of(tmp_path / "in") == {"in": 6}
    assert f"{tmp_path}/in: 1 of 7 DICOM files cannot be read" in caplog.messages
