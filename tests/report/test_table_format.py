import csv
import itertools
import re
import shutil
import subprocess
from io import StringIO

import pytest
from example_scores import LESIONS, NAN, SIX, evaluation, found, lesion
from label_schemes import ORGANS

from kitsjax.evaluate.outcomes import OUTCOMES
from kitsjax.evaluate.results import Evaluation, Score
from kitsjax.labels import KITS, MAJORITY
from kitsjax.report.latex import MOST_ROWS, to_latex
from kitsjax.report.lesion_tables import failure_table, sensitivity_table
from kitsjax.report.report import make_tables
from kitsjax.report.result_tables import (
    SCORE_NAMES,
    case_table,
    means_table,
    score_table,
    tidy_scores,
)
from kitsjax.report.table_format import (
    Column,
    HeadCell,
    Table,
    number,
    to_csv,
    to_markdown,
    to_text,
)

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
    "means": means_table({"network": {c: dict.fromkeys(SCORE_NAMES, 0.5) for c in KITS.titles}}),
    "no means": means_table({}),
    "failures": failure_table(found(LESIONS)),
    "no lesions": failure_table(found([])),
    "sensitivity": sensitivity_table(found(LESIONS)),
    "no sensitivity": sensitivity_table(found([])),
    "cases": case_table(SIX),
    "no cases": case_table(Evaluation()),
    "nasty": NASTY,
    "negative": Table("Negative", (Column("a"), Column("b")), (("a", number(-0.5)),)),
}
MANY = case_table(evaluation(*(at / 100 for at in range(MOST_ROWS + 1))))
LATEX_HEAD = r"\\scriptsize\\begin\{tabular\}\[b\]\{@\{\}[lr]@\{\}\}(.*?)\\end\{tabular\}"
every_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


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
    # A head over several lines is a table of its own, within its cell.
    text, heads = re.subn(LATEX_HEAD, r"{\1}", to_latex(table))
    assert heads in (0, len(table.columns))
    bare = re.sub(r"\\[\\&%$#_{}]", "", re.sub(r"^%.*", "", text, flags=re.MULTILINE))
    depths = [bare[:at].count("{") - bare[:at].count("}") for at in range(len(bare) + 1)]
    assert min(depths) == depths[-1] == 0
    assert not set("%#_~^<>|") & set(re.sub(r"\$([<>|−]|\^3)\$", "", bare))
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
    return text.replace("–", "-").replace("−", "-").replace("\u2003", " ")


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


def test_a_long_table_in_latex_breaks_over_pages():
    text = re.sub(LATEX_HEAD, "head", to_latex(MANY))
    assert text.splitlines()[0] == r"% \usepackage{booktabs,longtable}"
    assert r"\begin{table}" not in text
    body = text[text.index(r"\endfoot") : text.index(r"\end{longtable}")]
    assert body.count(r"\\") == MOST_ROWS + 1
    assert text.count(r"\toprule") == 2, "its head stands on every page"
    short = to_latex(case_table(evaluation(*(at / 100 for at in range(MOST_ROWS)))))
    assert short.splitlines()[0] == r"% \usepackage{booktabs}"
    assert "longtable" not in short


def make_organs(cases):
    """The table of cases of ten organs, at 0.5 and 0.75."""
    rows = (
        Score(f"case_{case:05d}", name, MAJORITY, 1, 0.5, 0.75, NAN, 1.0, 1.0, 0)
        for case in range(cases)
        for name in ORGANS.evaluation_keys
    )
    return case_table(Evaluation(tuple(rows), scheme=ORGANS))


@pytest.mark.parametrize(("cases", "kind"), [(2, "tabular*"), (MOST_ROWS, "longtable")])
def test_many_columns_in_latex_are_set_in_blocks(cases, kind):
    """Each block names the cases; all of them together have each class once, in order."""
    table = make_organs(cases)
    assert len(table.columns) == 21
    text = to_latex(table)
    blocks = text.split(rf"\begin{{{kind}}}")[1:]
    names, scores = [], []
    for block in blocks:
        heads = re.findall(LATEX_HEAD, block)
        assert heads[0] == "Case"
        own = heads[1 : len(heads) // (2 if kind == "longtable" else 1)]
        assert len(own) == 5
        names += [name.replace(r"\\", " ") for name in own]
        rows = [line for line in block.splitlines() if line.startswith("case")]
        assert len(rows) == cases
        scores += re.findall(r"0\.\d+", rows[0])
    assert names == 2 * list(ORGANS.titles.values())
    assert scores == 10 * ["0.500"] + 10 * ["0.750"]
    assert text.count(r"\caption") == 1
    # Every longtable steps the counter.
    assert (rf"\addtocounter{{table}}{{{1 - len(blocks)}}}" in text) == (kind == "longtable")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX here")
def test_every_latex_table_fits_the_text_width(tmp_path):
    lesions = [
        lesion(label, outcome, volume)
        for label, outcome in itertools.product(("tumor", "cyst"), OUTCOMES)
        for volume in 100 * [0.2, 0.7, 2, 5, 20, 50, 400]
    ]
    tables = []
    for cases in (MOST_ROWS, 70):
        scores = evaluation(*(at / 100 for at in range(cases))).scores
        far = tuple(s._replace(hausdorff95_mm=123.45, prediction_cm3=1234.56) for s in scores)
        tables += make_tables(Evaluation(far, (), tuple(lesions)), "paper").values()
        tables.append(make_organs(cases // 10))
    (tmp_path / "a.tex").write_text(
        r"\documentclass[10pt]{article}\usepackage{booktabs,longtable}"
        r"\usepackage[textwidth=122mm,textheight=193mm]{geometry}\begin{document}"
        + "\n\n".join(map(to_latex, tables))
        + r"\end{document}"
    )
    for _ in range(2):  # a longtable takes its widths from the run before
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "a.tex"], cwd=tmp_path, capture_output=True
        )
    assert done.returncode == 0, done.stdout
    assert b"Overfull" not in done.stdout
    assert b"too large" not in done.stdout


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


def test_number_format():
    assert [number(0.97149), number(1), number(NAN)] == ["0.971", "1.000", "–"]
    assert number(-0.37) == "−0.370"
    table = TABLES["negative"]
    assert "& $-$0.500" in to_latex(table)
    assert to_text(table).endswith("-0.500")
