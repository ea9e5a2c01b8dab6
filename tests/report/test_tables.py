import csv
import math
import re
from dataclasses import replace
from io import StringIO

import pytest

from kitsjax.evaluate.lesions import OUTCOMES
from kitsjax.evaluate.results import INDIVIDUAL, MAJORITY, Evaluation, Lesion, Score
from kitsjax.labels import EVALUATION_CLASSES, EVALUATION_NAMES
from kitsjax.report.table import (
    Column,
    HeadCell,
    Table,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
)
from kitsjax.report.tables import (
    SCORE_NAMES,
    case_table,
    failure_table,
    means_table,
    number,
    score_table,
    sensitivity_table,
    tidy_scores,
)

NAN = math.nan


def evaluation(*cases: float, against=(MAJORITY, INDIVIDUAL)) -> Evaluation:
    """Cases of one quality each; surface Dice 0.1 lower, individual annotations 0.01 lower."""
    return Evaluation(
        scores=tuple(
            Score(
                f"case_{at:05d}", name, truth, 1,
                quality - 0.01 * (truth == INDIVIDUAL),
                quality - 0.1 - 0.01 * (truth == INDIVIDUAL),
                NAN if name == "tumor" else 2.5, 10.0, 20.25, 1,
            )
            for at, quality in enumerate(cases)
            for name in EVALUATION_CLASSES
            for truth in against
        )
    )  # fmt: skip


def lesion(label: str, outcome: str, volume_cm3: float = 1.0) -> Lesion:
    source = "prediction" if outcome == "false" else "truth"
    return Lesion("case_00000", source, label, 1, volume_cm3, outcome, NAN, NAN, NAN, 0)


SIX = evaluation(0.9, 0.8, 0.7, 0.6, 0.85, 0.95)
HALF = {"dice": 0.5, "surface_dice": 0.5}
LESIONS = [
    *[lesion("tumor", "detected", 100)] * 2,
    lesion("tumor", "omitted", 0.5),
    lesion("tumor", "false", 0.5),
    lesion("cyst", "confused", 2),
]
NASTY = Table(
    "50 % of R&D_1 | <b>",
    (Column("a|b"), Column("x_1", "f & g"), Column("y#2", "f & g"), Column("$z$")),
    (("[0] {c}", "1 \\ 2", "*3*", "~4^"), ("–", "0.1–0.2", 'say "5, 6"', "`<i>`")),
    ("A note: 95 % & more.",),
)
TABLES = {
    "scores": score_table(SIX),
    "compared": score_table(SIX, "paper"),
    "tidy": tidy_scores(SIX, "paper"),
    "majority only": score_table(evaluation(0.5, 0.6, against=[MAJORITY]), "paper"),
    "one case": score_table(evaluation(0.5)),
    "no case": score_table(Evaluation(), "paper"),
    "means": means_table(
        {"network": {c: dict.fromkeys(SCORE_NAMES, 0.5) for c in EVALUATION_NAMES}}
    ),
    "no means": means_table({}),
    "failures": failure_table(LESIONS),
    "no lesions": failure_table([]),
    "sensitivity": sensitivity_table(LESIONS),
    "no sensitivity": sensitivity_table([]),
    "cases": case_table(SIX),
    "no cases": case_table(Evaluation()),
    "nasty": NASTY,
}
every_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def row(table: Table, name: str) -> tuple[str, ...]:
    [found] = [cells[1:] for cells in table.rows if cells[0] == name]
    return found


@every_table
def test_every_row_fills_the_columns(table):
    assert all(len(cells) == len(table.columns) for cells in table.rows)
    assert all(sum(cell.span for cell in line) == len(table.columns) for line in table.head)
    assert not any("nan" in cell for cells in table.rows for cell in cells)


@every_table
def test_csv_reads_back(table):
    head, *rows = csv.reader(StringIO(to_csv(table)))
    assert head == table.flat_head
    assert rows == [list(cells) for cells in table.rows]


@every_table
def test_markdown_has_every_column_in_every_line(table):
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert [len(line) for line in cells] == [len(table.columns)] * (len(table.rows) + 2)
    assert set("".join(cells[1])) <= set(" :-")
    plain = [tuple(re.sub(r"\\(.)", r"\1", cell).strip(" ") for cell in line) for line in cells[2:]]
    assert plain == list(table.rows)


@every_table
def test_latex_is_balanced(table):
    text = to_latex(table)
    bare = re.sub(r"\\[\\&%$#_{}]", "", re.sub(r"^%.*", "", text, flags=re.MULTILINE))
    depths = [bare[:at].count("{") - bare[:at].count("}") for at in range(len(bare) + 1)]
    assert min(depths) == depths[-1] == 0
    assert not set("%#_~^<>|") & set(re.sub(r"\$([<>|]|\^3)\$", "", bare))
    assert bare.count("$") % 2 == 0
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == len(table.rows) + len(table.head)
    for line in rows:
        spans = map(int, re.findall(r"\\multicolumn\{(\d+)\}", line))
        columns = 1 + len(re.findall(r"(?<!\\)&", line)) + sum(span - 1 for span in spans)
        assert columns == len(table.columns)
        assert not re.match(r"[\[*]", line), "an argument of the line break before it"


@every_table
def test_text_is_aligned(table):
    text = to_text(table)
    assert text.isascii(), "some terminals print nothing else"
    title, _, *lines = text.splitlines()
    assert title == table.title
    rule = next(at for at, line in enumerate(lines) if set(line) == {"-"})
    ends = [match.end() for match in re.finditer(r"\S+(?: \S+)*", lines[rule - 1])]
    for cells, line in zip(table.rows, lines[rule + 1 :], strict=False):
        assert len(line) == len(lines[rule]) == ends[-1]
        assert line.startswith(plain(cells[0]))
        for cell, end in zip(cells[1:], ends[1:], strict=True):
            assert line[:end].endswith(plain(cell))
    assert all(len(line) <= len(lines[rule]) for line in lines[:rule])


def plain(text: str) -> str:
    return text.replace("–", "-").replace("\u2003", " ")


def test_text_by_hand():
    table = Table(
        "Title",
        (Column("Case"), Column("a", "Wide group"), Column("b", "Wide group"), Column("c")),
        (("one", "1", "22", "3"),),
        ("A note.",),
    )
    assert to_text(table).splitlines() == [
        "Title",
        "",
        "      Wide group",
        "Case  a        b  c",
        "-------------------",
        "one   1       22  3",
        "",
        "A note.",
    ]
    assert table.head[0] == [HeadCell("", 1), HeadCell("Wide group", 2), HeadCell("", 1)]
    lone = Table("Two columns of no group stand apart", (Column("a"), *table.columns), ())
    assert lone.head[0] == [HeadCell("", 1), *table.head[0]]


def test_latex_spans_groups():
    text = to_latex(NASTY)
    assert r" & \multicolumn{2}{c}{f \& g} & " in text
    assert r"\cmidrule(lr){2-3}" in text
    assert (
        r"{[}0] \{c\} & 1 \textbackslash{} 2 & {*}3{*} & \textasciitilde{}4\textasciicircum{}"
        in text
    )
    assert r"-- & 0.1--0.2 &" in text
    assert r"\caption{50 \% of R\&D\_1 $|$ $<$b$>$}" in text


def test_means_stand_in_the_papers_places():
    table = score_table(SIX)
    assert [(c.group, c.name) for c in table.columns[1:]] == [
        ("Dice", "Majority"), ("Dice", "Individual"),
        ("Surface Dice", "Majority"), ("Surface Dice", "Individual"),
    ]  # fmt: skip
    assert [cells[0] for cells in table.rows[::2]] == ["Kidney + Masses", "Masses", "Tumor"]
    assert row(table, "Tumor") == ("0.800", "0.790", "0.700", "0.690")
    low, high = map(float, table.rows[1][1].split("–"))
    assert 0.6 < low < 0.8 < high < 0.95


def test_published_means_stand_under_ours():
    table = score_table(SIX, "paper")
    theirs = [cells[1:] for cells in table.rows[2::3]]
    assert theirs == [
        ("0.971", "0.963", "0.937", "0.919"),
        ("0.861", "0.856", "0.762", "0.749"),
        ("0.840", "0.835", "0.743", "0.729"),
    ]
    assert table.notes[-1].startswith("Paper: Zang")


def test_what_was_not_scored_has_no_column():
    table = score_table(evaluation(0.5, 0.7, against=[INDIVIDUAL]), "paper")
    assert [column.name for column in table.columns] == ["Class", "Individual", "Individual"]
    assert table.rows[2][1:] == ("0.963", "0.919")
    assert score_table(Evaluation()).columns == (Column("Class"),)
    assert score_table(Evaluation()).rows == ()


def test_one_case_has_no_interval():
    assert [cells[0] for cells in score_table(evaluation(0.5)).rows] == list(
        EVALUATION_NAMES.values()
    )


def test_notes_say_what_is_missing():
    assert "Not scored" not in " ".join(score_table(SIX).notes)
    notes = score_table(replace(SIX, missing=("case_00009",))).notes
    assert "6 against the majority label" in notes[0]
    assert "1 without a prediction, 0 failed" in notes[0]


def test_tidy_scores_hold_every_digit():
    head, *rows = csv.reader(StringIO(to_csv(tidy_scores(evaluation(0.1, 0.3), "paper"))))
    assert ",".join(head) == "evaluation_class,score,against,mean,low,high,cases,paper"
    assert len(rows) == 12
    records = {tuple(line[:3]): dict(zip(head, line, strict=True)) for line in rows}
    record = records["mass", "dice", INDIVIDUAL]
    assert float(record["mean"]) == pytest.approx(0.19, abs=1e-12)
    assert float(record["low"]) <= 0.19 <= float(record["high"])
    assert (record["cases"], record["paper"]) == ("2", "0.856")
    head, *rows = csv.reader(StringIO(to_csv(tidy_scores(evaluation(0.5)))))
    assert head[-1] == "cases"
    assert rows[0] == ["kidney_and_mass", "dice", MAJORITY, "0.5", "", "", "1"]


def test_means_of_several_methods():
    network = {
        c: {"dice": at / 10, "surface_dice": at / 20} for at, c in enumerate(EVALUATION_NAMES)
    }
    table = means_table({"network": network, "best HU threshold": network})
    assert [cells[0] for cells in table.rows] == ["network", "best HU threshold"]
    assert table.rows[0][1:] == ("0.000", "0.100", "0.200", "0.000", "0.050", "0.100")


def test_failures_are_counted_per_label():
    table = failure_table(LESIONS)
    assert len(table.columns) == 2 + len(OUTCOMES)
    tumor = dict(zip((c.name for c in table.columns[1:]), row(table, "Tumor"), strict=True))
    assert tumor["True"] == "3"
    assert tumor["Detected"] == "2 (67 %)"
    assert tumor["Omitted"] == "1 (33 %)"
    assert tumor["False"] == "1"
    assert row(table, "Cyst")[0] == "1"
    assert set(row(failure_table([]), "Cyst")) == {"0"}


def test_cases_start_with_the_worst_tumor():
    table = case_table(SIX)
    assert [cells[0][-1] for cells in table.rows] == list("321405")
    assert table.rows[0][1:] == (
        "0.600", "0.600", "0.600", "0.500", "0.500", "0.500", "2.50", "–", "20.25", "10.00",
    )  # fmt: skip
    assert "majority" in table.title
    individual = case_table(evaluation(0.5, against=[INDIVIDUAL]))
    assert "individual" in individual.title
    assert individual.rows[0][1] == "0.490"


def test_agreement_is_said_in_a_sentence():
    assert score_table(SIX).notes[1] == (
        "From majority to individual, over 6 cases, mean Dice falls by at most 0.010 (Kidney + "
        "Masses) and mean surface Dice falls by at most 0.010 (Kidney + Masses). Spearman r "
        "between the two scores of a case is 1.000."
    )
    risen = tuple(s._replace(dice=s.dice + 0.05 * (s.against == INDIVIDUAL)) for s in SIX.scores)
    assert "mean Dice rises by at least 0.040" in score_table(Evaluation(risen)).notes[1]
    assert "has no value" in score_table(evaluation(0.5, 0.5, 0.5)).notes[1]
    assert "fewer than three" in score_table(evaluation(0.5, 0.6)).notes[1]


def test_sensitivity_stands_by_volume():
    table = sensitivity_table(LESIONS, (0, 1, 50, math.inf))
    assert [cells[0] for cells in table.rows] == ["0–1", "1–50", "50 or more"]
    assert row(table, "0–1") == ("1", "0 (0 %)", "0–79 %", "0", "0", "0", "–", "0")
    assert row(table, "1–50") == ("0", "0", "–", "0", "1", "1 (100 %)", "21–100 %", "1")
    assert row(table, "50 or more")[:4] == ("2", "2 (100 %)", "34–100 %", "0")
    assert [cell.text for cell in table.head[0]] == ["", "Tumor", "Cyst"]


def test_number_format():
    assert [number(0.97149), number(1), number(NAN)] == ["0.971", "1.000", "–"]
