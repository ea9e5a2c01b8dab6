"""Reports of other labels than KiTS's: what they show, in whose words, and how it fits."""

import csv
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from html_reader import Reader
from label_schemes import LESIONS, LIVER, ORGAN_NAMES, ORGANS, SPLEEN

from kitsjax.errors import InputError
from kitsjax.evaluate.outcomes import list_outcomes
from kitsjax.evaluate.results import Evaluation, Lesion, Score
from kitsjax.labels import KITS, MAJORITY
from kitsjax.report.charts import plot_boxes, plot_sensitivity, plot_volume
from kitsjax.report.names import find_focus, join_names, pluralize
from kitsjax.report.rank_cases import rank_cases
from kitsjax.report.report import write_report
from kitsjax.report.result_tables import case_table, score_table
from kitsjax.report.slice_panels import draw_views
from kitsjax.report.views import View, best_slice, worst_slice

OTHERS = {"liver": LIVER, "spleen": SPLEEN, "organs": ORGANS, "lesions": LESIONS}


def made_up(scheme, cases=7):
    """Scores of some cases, each a little worse than the one before, and every lesion outcome."""
    scores = tuple(
        Score(f"case_{n:05d}", key, MAJORITY, 1, 0.9 - 0.1 * n, 0.8 - 0.1 * n, 3.0, 9.0, 8.0 + n, 1)
        for n in range(cases)
        for key in scheme.evaluation_keys
    )
    lesions = tuple(
        Lesion(
            "case_00000", "prediction" if outcome == "false positive" else "truth",
            scheme.names[label], 1, 2.0, outcome, 0.5, 0.5, 0.5, 3,
        )
        for label in scheme.lesions
        for outcome in list_outcomes(scheme)
    )  # fmt: skip
    return Evaluation(scores, lesions=lesions, scheme=scheme, predictions="/a/b", dataset="/c/d")


@pytest.fixture(scope="module", params=OTHERS)
def report(request, tmp_path_factory):
    """The scheme of a report, and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    write_report(made_up(OTHERS[request.param]), folder)
    return OTHERS[request.param], folder


def page_text(folder):
    return Reader((folder / "report.html").read_text()).text


def test_nothing_of_kits_is_told(report):
    """Its organs, annotators, paper and figures have no place in another data set's report."""
    scheme, folder = report
    told = "".join(path.read_text() for path in folder.glob("*.md"))
    told = (told + page_text(folder)).lower()
    for name in scheme.names:
        told = told.replace(name, "")
    words = "kits", "kidney", "tumor", "cyst", "annotators", "majority", "individual", "paper"
    assert [word for word in words if word in told] == []


def test_figures_and_tables_are_numbered_in_order(report):
    """None is left out, on the page or in the names of files."""
    _, folder = report
    text = page_text(folder)
    figures = re.findall(r"Figure (\d)\. [A-Z]", text)
    assert figures == [str(n) for n in range(1, len(figures) + 1)]
    tables = re.findall(r"Table (\d)\. [A-Z]", text)
    assert tables == [str(n) for n in range(1, len(tables) + 1)]
    drawn = {path.stem.split("_")[1] for path in folder.glob("figure_*.png")}
    assert drawn <= set(figures)


def test_lesions_are_shown_where_there_are_any(report):
    scheme, folder = report
    names = {path.name for path in folder.iterdir()}
    assert ("failure_modes.md" in names) == ("sensitivity.md" in names) == bool(scheme.lesions)
    assert any("sensitivity.png" in name for name in names) == bool(scheme.lesions)
    assert any("volume.png" in name for name in names) == (find_focus(scheme) is not None)
    text = page_text(folder)
    assert ("connected component" in text) == bool(scheme.lesions)
    assert ("Voxels whose truth nobody annotated" in text) == (scheme.ignore is not None)


def test_the_page_is_named_after_its_labels(report):
    scheme, folder = report
    title = {
        LIVER: "Segmentation of liver, tumor and vessel",
        SPLEEN: "Segmentation of spleen",
        ORGANS: "Segmentation of 10 labels",
        LESIONS: "Segmentation of lung, nodule, metastasis and cyst",
    }[scheme]
    html = (folder / "report.html").read_text()
    assert f"<h1>{title}</h1>" in html
    assert f"<title>{title}: results</title>" in html


def test_every_class_has_its_row(report):
    scheme, folder = report
    rows = list(csv.DictReader((folder / "table_1.csv").read_text().splitlines()))
    assert [row["evaluation_class"] for row in rows[: len(scheme.evaluation)]] == [
        *scheme.evaluation_keys
    ]
    table = score_table(made_up(scheme))
    assert [column.name for column in table.columns] == ["Class", "Dice", "Surface Dice"]
    titles = [row[0] for row in table.rows if not row[0].startswith("\u2003")]
    assert titles == [*scheme.titles.values()]


def test_published_scores_are_of_kits(tmp_path):
    with pytest.raises(InputError, match="--compare paper: its scores are of KiTS21's classes"):
        write_report(made_up(LIVER), tmp_path, compare="paper")


def test_classes_to_order_the_cases_by():
    assert find_focus(KITS).key == find_focus(LIVER).key == "tumor"
    for scheme in (SPLEEN, ORGANS, LESIONS):
        assert find_focus(scheme) is None
    assert rank_cases(made_up(LIVER))[0] == "tumor Dice"
    assert rank_cases(made_up(SPLEEN))[0] == "Dice"
    found = made_up(ORGANS, 1)
    scores = tuple(s._replace(dice=0.1 * n) for n, s in enumerate(found.scores))
    name, dice = rank_cases(replace(found, scores=scores))
    assert (name, dice) == ("mean Dice", {"case_00000": pytest.approx(0.45)})


def test_columns_of_cases():
    """Distances and volumes of ten organs would be too many."""
    groups = [[column.group for column in case_table(made_up(s)).columns] for s in OTHERS.values()]
    liver, spleen, organs, _ = groups
    assert liver == [
        "", *["Dice"] * 3, *["Surface Dice"] * 3, *["HD95 (mm)"] * 2, *["Tumor (cm³)"] * 2,
    ]  # fmt: skip
    assert spleen == ["", "Dice", "Surface Dice", "HD95 (mm)", "Spleen (cm³)", "Spleen (cm³)"]
    assert organs == ["", *["Dice"] * 10, *["Surface Dice"] * 10]


def boxes_of_texts(figure, texts):
    from matplotlib.text import Text

    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in texts if isinstance(text, Text)]


def test_many_keys_fit_into_the_figure():
    """The legend of ten labels, below one case or five, reaches over no edge of the figure."""
    view = View(
        None, np.zeros((30, 40), np.uint8), np.arange(1200).reshape(30, 40) % 11, (5.0, 5.0)
    )
    for cases in (1, 5):
        figure = draw_views([view] * cases, ["case"] * cases, ORGANS)
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [*ORGAN_NAMES]
        for box in boxes_of_texts(figure, legend.get_texts()):
            assert 0 <= box.x0 < box.x1 <= figure.bbox.width
            assert 0 <= box.y0 < box.y1 <= figure.bbox.height
        colors = {patch.get_edgecolor()[:3] for patch in legend.get_patches()}
        assert len(colors) == 10
        assert all(np.ptp(color) > 0.2 for color in colors), "gray would not be seen over a CT"


def test_names_of_many_classes_do_not_overlap():
    """Ten names are written aslant below the lower one of two panels."""
    figure = plot_boxes(made_up(ORGANS)).figure
    upper, lower = figure.axes
    assert upper.get_position().y0 > lower.get_position().y1
    texts = lower.get_xticklabels()
    assert [text.get_text() for text in texts] == [*ORGANS.titles.values()]
    for box in boxes_of_texts(figure, texts):
        assert box.x0 >= 0
        assert box.y0 >= 0


def test_three_kinds_of_lesions_are_told_apart():
    drawing = plot_sensitivity(made_up(LESIONS))
    above, below = drawing.figure.axes
    looks = {(c.lines[0].get_marker(), c.lines[0].get_color()) for c in above.containers}
    assert len(looks) == 3
    assert [text.get_text() for text in below.get_yticklabels()] == ["nodule", "metastasis", "cyst"]
    assert "found under any label" in drawing.caption
    assert "4 of 5 nodules, 4 of 5 metastases and 4 of 5 cysts were found" in drawing.caption
    single = plot_sensitivity(made_up(LIVER)).caption
    assert "rate of true lesions found, by volume" in single
    assert "misclassified" not in single


def test_lesions_are_shown_before_organs():
    """The slice with most of the lesion is chosen, though the organ is larger elsewhere."""
    truth = np.zeros((6, 10, 10), np.uint8)
    truth[1], truth[4, :2], truth[5, 0, 0] = 1, 2, 3
    empty = np.zeros_like(truth)
    assert best_slice(empty, truth, LIVER) == 4
    assert best_slice(empty, truth, replace(LIVER, lesions=(3,))) == 5
    assert best_slice(empty, truth, replace(LIVER, lesions=())) == 1
    # Without a lesion in focus, every wrong voxel counts.
    assert worst_slice(empty, truth, [], replace(LIVER, lesions=())) == 1
    assert worst_slice(empty, truth, [], LIVER) == 4


def test_reasons_name_the_schemes_lesion():
    scheme = replace(LIVER, names=("background", "liver", "metastasis", "vessel"))
    assert plot_volume(made_up(scheme, 1)).caption == (
        "Only one case has a single metastasis; two halves take at least two."
    )
    assert plot_sensitivity(Evaluation(scheme=LESIONS)).caption == (
        "There is no nodule, metastasis or cyst in truth or prediction, so no rate can be shown."
    )


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("tumor", "tumors"), ("cyst", "cysts"), ("mass", "masses"), ("metastasis", "metastases"),
        ("cavity", "cavities"), ("ray", "rays"), ("lesion_2", "lesion_2 lesions"),
        ("kidney tumor", "kidney tumor lesions"),
    ],
)  # fmt: skip
def test_plurals(name, plural):
    assert pluralize(name) == plural


def test_lists_of_names():
    join = partial(join_names, word="and")
    assert [join(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
