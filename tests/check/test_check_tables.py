import csv
from io import StringIO

from made_cases import CASES, EVIL, make_case

from kitsjax.check.tables import case_table, describe_totals, fault_lines
from kitsjax.labels import KITS
from kitsjax.report.table_format import to_csv


def read_rows():
    return list(csv.DictReader(StringIO(to_csv(case_table(CASES, KITS)))))


def test_the_totals():
    assert describe_totals(CASES) == "4 cases: 2 with errors, 1 with warnings only, 1 clean"
    assert describe_totals(CASES[:1]) == "1 case: 1 with errors, 0 with warnings only, 0 clean"


def test_the_lines_name_the_faults_of_each_case():
    """A clean case has no line."""
    assert fault_lines(CASES) == [
        "case        errors           warnings",
        "--------------------------------------",
        "case_00007  grid mismatch    padded HU",
        "case_00002  unreadable file  -",
        "case_00004  -                padded HU",
    ]
    assert fault_lines([make_case(1)]) == []


def test_the_csv_has_every_fact():
    first, _, _, clean = read_rows()
    assert clean == {
        "case": "case_00001", "grade": "clean", "errors": "0", "warnings": "0",
        "shape_z": "4", "shape_y": "6", "shape_x": "8",
        "spacing_z_mm": "3", "spacing_y_mm": "0.75", "spacing_x_mm": "0.5", "orientation": "IPL",
        "hu_least": "-1024", "hu_0.5_percent": "-1000", "hu_99.5_percent": "250",
        "hu_most": "1500", "kidney_cm3": "310.250", "tumor_cm3": "31.440", "cyst_cm3": "0.000",
        "kidney_lesions": "", "tumor_lesions": "4", "cyst_lesions": "0", "annotators": "3",
        "kidney_agreement": "0.9700", "tumor_agreement": "0.9120", "cyst_agreement": "",
        "findings": "",
    }  # fmt: skip
    assert (first["errors"], first["warnings"]) == ("1", "1")
    assert first["findings"] == "grid mismatch: what was found; padded HU: what was found"


def test_the_csv_of_a_case_without_facts():
    row = read_rows()[1]
    named = {name: value for name, value in row.items() if value}
    assert named == {
        "case": "case_00002", "grade": "error", "errors": "1", "warnings": "0",
        "findings": f"unreadable file: {EVIL}",
    }  # fmt: skip
