"""Names of patients: short ones, joined ones, and those in the paths of files that get lost."""

import unicodedata
import warnings

import pytest
from dicom_files import write_series
from nifti_files import refusal
from pydicom.uid import JPEGLSLossless

from kitsjax import read_volume
from kitsjax.dicom.cases import find_dicom
from kitsjax.dicom.image import hide, read_header
from kitsjax.dicom.segmentation import check_referable
from kitsjax.infer.current_masks import mask_key

TOLD = {
    "Li^Na": ["Li_Na", "NA", "ct of li", "LiNa", "scan-NaLi2", "li2"],
    "Ng^Ho": ["Ho Ng 2", "ngho"],
    "Wang^Xiaoming=王^小明": ["王小明", "小明王", "王_CT", "腹部小明", "Wang"],
    "李^娜": ["李娜腹部", "娜 1"],
    "Müller^A": [unicodedata.normalize("NFD", "müller"), "MÜLLER"],
    "Mu\u0308ller": ["Müller"],
    "Strauß": ["STRAUSS"],
    "O'Neil^Ed": ["ONeil", "Ed"],
}

UNTOLD = {
    "Li^Na": ["Liver", "Nativ", "final", "Br38f"],
    "Ng^Ho": ["Cholangio"],
    "Wang^Xiaoming=王^小明": ["王国", "Abdomen"],
    "Smith^A": ["a", "A 1", "phase A"],
}


def hidden_words(folder, name):
    path = write_series(folder, PatientName=name, SpecificCharacterSet="ISO_IR 192")[0]
    return read_header(path).hidden


@pytest.mark.parametrize("name", TOLD)
def test_words_of_a_name_are_withheld(tmp_path, name):
    hidden = hidden_words(tmp_path, name)
    assert {text: hide(text, hidden) for text in TOLD[name]} == dict.fromkeys(
        TOLD[name], "(name withheld)"
    )


@pytest.mark.parametrize("name", UNTOLD)
def test_other_texts_are_told(tmp_path, name):
    """A short word counts as a whole word only, and an initial not at all."""
    hidden = hidden_words(tmp_path, name)
    assert {text: hide(text, hidden) for text in UNTOLD[name]} == {t: t for t in UNTOLD[name]}


@pytest.fixture
def series(tmp_path):
    """A compressed series in a folder with the patient's name."""
    write_series(tmp_path / "in" / "Muster_Erika", syntax=JPEGLSLossless, StudyInstanceUID="1.1")
    write_series(tmp_path / "in" / "other", uid="2", StudyInstanceUID="1.2")
    (found, name), _ = find_dicom(tmp_path / "in")
    assert name == "1.1"
    return found


def test_a_slice_cut_short_tells_no_path(tmp_path, series, caplog):
    """pydicom warns of its end, and Python prints that."""
    path = tmp_path / "in" / "Muster_Erika" / "IM0003"
    path.write_bytes(path.read_bytes()[:-60])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        message = refusal(read_volume, series)
    assert message.startswith(f"{tmp_path / 'in' / '1.1'}: series 2: IM0003: its pixels cannot be")
    assert any("End of file reached" in str(warning.message) for warning in told)
    assert "Muster" not in message + caplog.text + "".join(str(one.message) for one in told)


ACCESSES = {
    "pixels": read_volume,
    "header": check_referable,
    "time of change": lambda series: mask_key("", series),
}


@pytest.mark.parametrize("name", ACCESSES)
def test_a_slice_that_is_gone_tells_no_path(tmp_path, series, name):
    """As where a share goes away during the run."""
    assert series.stack
    (tmp_path / "in" / "Muster_Erika" / "IM0003").unlink()
    message = refusal(ACCESSES[name], series)
    assert message.startswith(f"{tmp_path / 'in' / '1.1'}: series 2: ")
    assert "o such file" in message
    assert "Muster" not in message
