import base64
import re
from itertools import pairwise

import pytest
from html_reader import Reader, check_self_contained

from kitsjax.evaluate.results import Evaluation, Failure, Lesion, Score
from kitsjax.labels import KITS
from kitsjax.report.drawing import Drawing, new_figure
from kitsjax.report.page import render_page
from kitsjax.report.report import make_tables

EVIL = '<script>alert("1")</script>&amp;'
PIXEL = b"\x89PNG any bytes"
NAMES = (
    "figure_2_training", "figure_3_best", "figure_4_boxes", "figure_5_volume", "figure_6_worst",
    "figure_7_sensitivity",
)  # fmt: skip


def make_evaluation(case_ids=("case_00001", "case_00002", "case_00007"), **rest):
    scores = tuple(
        Score(case_id, name, against, 1, 0.9 - 0.1 * i, 0.8 - 0.1 * i, 3.0, 30.0, 31.0, 1)
        for i, case_id in enumerate(case_ids)
        for name in KITS.evaluation_keys
        for against in ("majority", "individual")
    )
    lesions = tuple(
        Lesion(case_id, "truth", "tumor", 1, 31.0, "detected", 0.9, 0.1, 0.0, 4)
        for case_id in case_ids
    )
    rest = {"predictions": "/runs/a/predictions", "dataset": "/data/kits21", **rest}
    return Evaluation(scores, lesions=lesions, versions={"scipy": "1.2.3"}, **rest)


def make_drawings():
    return [
        Drawing(name, f"Title of {name}", f"Gist of {name}. Rest of {name}.", new_figure(7, 4))
        for name in NAMES
    ]


def make_page(evaluation, drawings=None, compare=None):
    drawings = make_drawings() if drawings is None else drawings
    images = {drawing.name: PIXEL for drawing in drawings if drawing.figure}
    return render_page(evaluation, make_tables(evaluation, compare), drawings, images)


@pytest.fixture(scope="module")
def html():
    return make_page(make_evaluation(), compare="paper")


@pytest.fixture(scope="module")
def page(html):
    return Reader(html)


def test_the_page_needs_nothing_but_itself(html):
    check_self_contained(html)


def test_figures_hold_their_bytes_and_a_text(page):
    images = page.all("img")
    assert len(images) == len(NAMES)
    for image, name in zip(sorted(images, key=lambda image: image["alt"]), NAMES, strict=True):
        assert base64.b64decode(image["src"].partition(",")[2]) == PIXEL
        assert image["alt"] == f"Title of {name}: Gist of {name}."
        assert (image["width"], image["height"]) == ("672", "384")


def test_every_caption_cell_and_note_is_there(page):
    for drawing in make_drawings():
        assert f"{drawing.title}. {drawing.caption}" in page.text
    for table in make_tables(make_evaluation(), "paper").values():
        assert table.title in page.text
        for text in (
            *sum(table.rows, ()),
            *(column.name for column in table.columns),
            *table.notes,
        ):
            assert " ".join(text.split()) in page.text


def test_every_row_has_as_many_cells_as_the_head(html):
    tables = re.findall(r"<table>.*?</table>", html, re.DOTALL)
    assert len(tables) == 4
    for table in tables:
        rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        widths = set()
        for row in rows:
            cells = Reader(row).all("th") + Reader(row).all("td")
            widths.add(sum(int(cell.get("colspan", 1)) for cell in cells))
        assert len(widths) == 1


def test_only_tables_of_many_columns_are_wide(page):
    kinds = {a["aria-labelledby"]: a["class"] for a in page.all("div") if "aria-labelledby" in a}
    assert {name: "wide" in kind.split() for name, kind in kinds.items()} == {
        "table-1": False, "table-2": False, "table-3": False, "table-4": True,
    }  # fmt: skip


def test_definitions_state_what_was_scored_with(page):
    for *_, tolerance_mm in KITS.evaluation:
        assert f"{tolerance_mm:.3f} mm" in page.text


def test_structure_serves_screen_readers(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("main")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure"))
    assert all(head["scope"] in ("col", "colgroup", "row") for head in page.all("th"))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )


def test_links_and_labels_lead_to_one_place_each(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"].removeprefix("#") for link in page.all("a")]
    targets += [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert targets
    assert set(targets) <= set(ids)


def test_what_comes_from_files_is_escaped():
    evaluation = make_evaluation(
        (EVIL, "case_00002"),
        failures=(Failure(EVIL, f"{EVIL}: unreadable"),),
        missing=(EVIL,),
        predictions=f"/runs/{EVIL}",
        dataset=f"/data/{EVIL}",
    )
    drawing = make_drawings()[0]._replace(title=EVIL, caption=f'{EVIL}" onload="x.')
    page = Reader(make_page(evaluation, [drawing, *make_drawings()[1:]]))
    assert page.all("script") == []
    assert all("onload" not in attributes for _, attributes in page.elements)
    # It stands in the tables, the lists, the head and the captions.
    assert page.text.count(EVIL) >= 8


def test_cases_without_a_score_are_named():
    """They are counted at the top and listed below with the reasons."""
    failure = Failure("case_00009", "case_00009.nii.gz: not a NIfTI file")
    page = Reader(
        make_page(make_evaluation(failures=(failure,), missing=("case_00003", "case_00004")))
    )
    assert "2 cases without a prediction and 1 case that could not be scored; see" in page.text
    for text in (*failure, "case_00003", "case_00004"):
        assert text in page.text
    assert "None: every case" not in page.text


def test_a_missing_figure_leaves_its_caption():
    drawings = [d._replace(figure=None, caption="Too few.") for d in make_drawings()]
    page = Reader(make_page(make_evaluation(), drawings))
    assert page.all("img") == []
    assert page.text.count("Too few.") == len(NAMES)


def test_the_smallest_evaluation_is_a_whole_page():
    """One case against one ground truth, without a lesion."""
    evaluation = make_evaluation(("case_00001",))
    scores = tuple(score for score in evaluation.scores if score.against == "majority")
    page = Reader(make_page(Evaluation(scores, predictions="p", dataset="d")))
    assert "1 case of the data set" in page.text
    assert "None: every case" in page.text
