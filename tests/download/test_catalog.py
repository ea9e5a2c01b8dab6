"""What is published: the published facts, and the list of cases that a user asks for."""

import pytest

from kitsjax.download.catalog import (
    DATA_SETS,
    IMAGING,
    case_name,
    describe_cases,
    list_published,
    parse_cases,
)
from kitsjax.errors import InputError

KITS21, KITS23, KITS19 = (DATA_SETS[name] for name in ("kits21", "kits23", "kits19"))


def test_numbers_of_cases_are_the_published_ones():
    assert KITS21.cases == tuple(range(300))
    assert len(KITS23.cases) == 489
    assert describe_cases(set(KITS23.cases)) == "0-299 and 400-588"
    assert (len(KITS19.cases), len(KITS19.unlabelled)) == (210, 90)


def test_addresses_of_a_case():
    """As the challenges' repositories and the imaging's two places have them."""
    image, label = list_published(KITS21, 7)
    assert image.urls == (
        "https://huggingface.co/datasets/neheller/KiTS-Challenge-Imaging/resolve/main/images/"
        "case_00007.nii.gz",
        "https://kits19.sfo2.digitaloceanspaces.com/master_00007.nii.gz",
    )
    start = "https://raw.githubusercontent.com/neheller"
    assert label.urls == (f"{start}/kits21/master/kits21/data/case_00007/{label.stem}.nii.gz",)
    assert (image.stem, label.stem) == ("imaging", "aggregated_MAJ_seg")
    _, label = list_published(KITS23, 588)
    assert label.urls == (f"{start}/kits23/main/dataset/case_00588/segmentation.nii.gz",)
    _, label = list_published(KITS19, 209)
    assert label.urls == (f"{start}/kits19/master/data/case_00209/segmentation.nii.gz",)


@pytest.mark.parametrize("data_set", DATA_SETS.values(), ids=DATA_SETS)
def test_all_addresses_are_encrypted(data_set):
    for case in (*data_set.cases, *data_set.unlabelled):
        for file in list_published(data_set, case):
            assert all(url.startswith("https://") for url in file.urls)
            assert all(f"{case:05d}" in url for url in file.urls)
    assert data_set.imaging == IMAGING


def test_hidden_labels_are_not_asked_for():
    assert [file.stem for file in list_published(KITS19, 210)] == ["imaging"]


def test_known_bad_cases_are_named():
    assert sorted(KITS19.problems) == [15, 25, 61, 117, 160]
    assert "second contrast phase" in KITS19.problems[117]
    for data_set in DATA_SETS.values():
        assert "252 x 512 x 796" in data_set.problems[160]


@pytest.mark.parametrize(
    ("text", "cases"),
    [
        (None, list(range(300))),
        ("0-9,12", [*range(10), 12]),
        ("12, 3 ,3-4", [3, 4, 12]),
        ("007", [7]),
        ("299", [299]),
    ],
)
def test_cases_that_are_asked_for(text, cases):
    assert parse_cases(text, KITS21) == cases


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty part"),
        ("1,,2", "an empty part"),
        ("9-0", "9-0 is no case number or range"),
        ("-3", "-3 is no"),
        ("case_00001", "case_00001 is no"),
        ("1.5", "1.5 is no"),
        ("300", "kits21 has no case_00300; its cases are 0-299"),
        ("298-303", "kits21 has no case_00300;"),
        ("0-99999999999999", "kits21 has no case_00300"),
        ("99999999999999", "kits21 has no case_99999999999999;"),
    ],
)
def test_wrong_lists_of_cases(text, reason):
    with pytest.raises(InputError, match=reason) as raised:
        parse_cases(text, KITS21)
    assert str(raised.value).startswith(f"--cases {text}: ")


def test_gap_between_the_cases_of_kits23():
    with pytest.raises(InputError, match="no case_00300 and 99 more; its cases are 0-299 and 400-"):
        parse_cases("0-588", KITS23)
    assert parse_cases("299,400", KITS23) == [299, 400]


def test_names_of_cases():
    assert [case_name(case) for case in (0, 588)] == ["case_00000", "case_00588"]
