"""Data sets of other labels than KiTS's: their facts, and what is left out for want of a fact."""

import csv
import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from faults import LABEL, edit
from html_reader import Reader
from label_schemes import LIVER, ORGANS, SPLEEN
from made_cases import make_case

from kitsjax.check.check_cases import check_cases
from kitsjax.check.checked_case import LabelFacts
from kitsjax.check.page import render_page
from kitsjax.check.tables import case_table
from kitsjax.data.kits import find_cases
from kitsjax.labels import KITS
from kitsjax.report.table_format import to_csv


@pytest.fixture
def check(root, tmp_path):
    """Check the phantom's cases, whose labels may have been changed since, by a scheme."""

    def run(scheme):
        found = check_cases(find_cases(root, images=False), tmp_path, 1, False, scheme)
        return {case.case_id: case for case in found}

    return run


def read_row(case, scheme):
    (row,) = csv.DictReader(StringIO(to_csv(case_table([case], scheme))))
    return row


def test_labels_outside_the_scheme_are_named(check):
    """The phantom's tumors and cysts are no spleens; its pictures go without a label."""
    for case in check(SPLEEN).values():
        (found,) = (found for found in case.findings if found.name == "foreign labels")
        assert re.search(r"label values 2(, 3)? are not among 0, 1;", found.text)
        assert case.label is None
        assert case.image


def test_what_is_ignored_is_measured(check, case_folder):
    """A quarter of the voxels is ignored."""

    def ignore(label):
        label[:, :, : label.shape[2] // 4] = 4
        return label

    before = check(LIVER)[case_folder.name]
    assert before.label.ignored == 0
    edit(case_folder / LABEL, ignore)
    case = check(LIVER)[case_folder.name]
    assert case.label.ignored == 0.25
    assert read_row(case, LIVER)["ignored_percent"] == "25.00"
    html = render_page([case], "livers", LIVER)
    assert "25.0 % of the voxels" in Reader(html).text
    assert "foreign labels" in [
        f.name for f in check(replace(LIVER, ignore=None))[case.case_id].findings
    ]


def test_a_label_that_ignores_all_is_empty(check, case_folder):
    edit(case_folder / LABEL, lambda label: np.full_like(label, 4))
    case = check(LIVER)[case_folder.name]
    assert [found.name for found in case.findings] == ["empty label"]
    assert case.label.ignored == 1


def test_columns_are_those_of_the_scheme():
    """Only KiTS's labels have annotators, and only labels with lesions have their numbers."""
    for scheme, absent in ((LIVER, ()), (ORGANS, ("lesions", "ignored")), (SPLEEN, ("lesions",))):
        volumes = dict.fromkeys(scheme.names[1:], 1.5)
        lesions = {scheme.names[label]: [1.0, 0.5] for label in scheme.lesions}
        case = replace(make_case(1), label=LabelFacts(volumes, lesions, 0.25), annotators=None)
        row = read_row(case, scheme)
        assert {row[f"{name}_cm3"] for name in scheme.names[1:]} == {"1.500"}
        heads = " ".join(row)
        for word in (*absent, "annotators", "agreement"):
            assert word not in heads
        text = Reader(render_page([case], "organs", scheme)).text
        assert not re.search("annotators|agreement|kidney (?!1)|cyst", text, re.IGNORECASE) or (
            scheme is ORGANS
        )
        assert ("lesions, cm³" in text) == bool(scheme.lesions)
    assert read_row(replace(case, label=None), LIVER)["ignored_percent"] == ""


def test_the_page_says_which_slices_it_shows():
    def lead(scheme):
        text = Reader(render_page([make_case(1)], "organs", scheme)).text
        return re.sub(r"\s+", " ", text)

    assert "slices with most tumor (else liver, else vessel), the patient's" in lead(LIVER)
    assert "slices with most spleen, the patient's" in lead(SPLEEN)
    assert "most aorta (else gallbladder, else left kidney), the patient's" in lead(ORGANS)


def test_two_folders_of_one_case_end_no_other(root, case_folder, check):
    """They are one fault of that case, and the other cases are checked."""
    case_folder.rename(root / "renamed")
    (root / "renamed").rename(root / "CASE_00001")
    case_folder.mkdir()
    found = check(KITS)
    assert [case.grade for case in found.values()] == ["error", "clean", "clean", "clean"]
    ((name, text),) = found["case_00001"].findings
    assert (name, text) == (
        "unreadable case",
        "case_00001 and CASE_00001 are of one case; keep one",
    )
