"""The values of an evaluation, and its tables by class."""


def test_tables_by_class(evaluation):
    assert evaluation.case_ids == ["case_00000", "case_00001"]
    assert evaluation.against == ["majority", "individual"]
    assert evaluation.table("individual", "surface_dice") == {
        "kidney_and_mass": {"case_00000": 0.3},
        "mass": {"case_00000": 0.4},
        "tumor": {"case_00000": 0.5},
    }
