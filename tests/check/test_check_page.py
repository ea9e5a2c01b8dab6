import base64
import re

import pytest
from html_reader import Reader, check_self_contained
from made_cases import CASES, EVIL, PICTURES, make_case

from kitsjax.check.findings import GRADES
from kitsjax.check.page import render_page
from kitsjax.labels import KITS


def cards(html):
    """Return the text of each card, by the id that it bears; no id comes twice."""
    parts = re.findall(r'<article id="(\w+)".*?</article>', html, re.DOTALL)
    assert len(parts) == len(set(parts)) == html.count("<article")
    return {
        found[1]: Reader(found[0]).text
        for found in re.finditer(r'<article id="(\w+)".*?</article>', html, re.DOTALL)
    }


@pytest.fixture(scope="module")
def html():
    return render_page(CASES, "kits21", KITS)


@pytest.fixture(scope="module")
def page(html):
    return Reader(html)


def shown_by(html, key):
    """Return the cases that a filter leaves, as its rule in the page's style says."""
    hidden = re.search(rf"#show-{key}:checked ~ main article:not\(\.([\w-]+)\)", html)
    return [
        attributes["id"]
        for attributes in Reader(html).all("article")
        if not hidden or hidden[1] in attributes["class"].split()
    ]


def test_the_page_needs_nothing_but_itself(html):
    check_self_contained(html, "jpeg")


def test_every_case_is_there_once_in_order(html):
    assert list(cards(html)) == [case.case_id for case in CASES]


def test_a_card_says_all_about_its_case(html):
    text = cards(html)["case_00007"]
    for said in (
        "1 error, 1 warning", "grid mismatch what was found", "padded HU what was found",
        "4 × 6 × 8", "3 × 0.75 × 0.5 mm", "IPL", "−1024 to 1500; 99 % from −1000 to 250",
        "agreement of 3", "kidney310.2–0.97", "tumor31.44: 20.0, 9.0, 2.0, …0.91", "cyst–––",
    ):  # fmt: skip
        assert said in text


def test_pictures_hold_their_bytes_and_a_text(page):
    images = page.all("img")
    assert [base64.b64decode(i["src"].partition(",")[2]) for i in images] == [*PICTURES] * 3
    assert [i["alt"] for i in images[:2]] == [
        "Axial slice of case_00007", "Coronal slice of case_00007",
    ]  # fmt: skip


def test_texts_from_files_are_escaped():
    html = render_page([make_case(1, "NaN", text=EVIL)], EVIL, KITS)
    assert EVIL not in html
    assert f"NaN {EVIL}" in cards(html)["case_00001"]
    assert not Reader(html).all("script")


def test_filters_leave_cases_of_a_grade_or_fault(html):
    """A case with an error and a warning is among both."""
    assert shown_by(html, "all") == [case.case_id for case in CASES]
    assert shown_by(html, "error") == ["case_00007", "case_00002"]
    assert shown_by(html, "warning") == ["case_00007", "case_00004"]
    assert shown_by(html, "clean") == ["case_00001"]
    assert shown_by(html, "has-padded-hu") == ["case_00007", "case_00004"]
    assert "#show-has-nan" not in html


def test_filters_count_what_they_leave(html, page):
    """Each is a radio button with a label of its own; the first shows all cases."""
    buttons = [button["id"] for button in page.all("input")]
    assert [label["for"] for label in page.all("label")] == buttons
    assert [button["id"] for button in page.all("input") if "checked" in button] == ["show-all"]
    labels = re.findall(r'<label for="show-([\w-]+)"[^>]*>[^<]* (\d+)</label>', html)
    assert len(labels) == len(buttons)
    for key, count in labels:
        assert len(shown_by(html, key)) == int(count)


def test_every_fault_has_a_filter():
    cases = [make_case(n, name) for n, name in enumerate(GRADES)]
    html = render_page(cases, "kits21", KITS)
    for case, name in zip(cases, GRADES, strict=True):
        assert shown_by(html, f"has-{name.lower().replace(' ', '-')}") == [case.case_id]


def test_equal_cases_give_equal_pages(html):
    assert render_page(CASES, "kits21", KITS) == html
