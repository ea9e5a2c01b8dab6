"""A table in no format yet, and four ways to write one: text, Markdown, CSV, LaTeX."""

import csv
import itertools
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import NamedTuple


class Column(NamedTuple):
    """A column's name, and the name that it shares with its neighbors, if any."""

    name: str
    group: str = ""


class HeadCell(NamedTuple):
    """A text over `span` columns."""

    text: str
    span: int


@dataclass(frozen=True)
class Table:
    """A table as it is read, in no format yet; the first cell of a row names the row."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> list[list[HeadCell]]:
        """The lines of the head: the columns' names, and above them the groups, if any."""
        names = [HeadCell(column.name, 1) for column in self.columns]
        # A column of no group stands alone, whatever its neighbors are.
        runs = itertools.groupby(self.columns, lambda c: (c.group, "" if c.group else c.name))
        groups = [HeadCell(group, len(list(columns))) for (group, _), columns in runs]
        return [groups, names] if any(group.text for group in groups) else [names]

    @property
    def flat_head(self) -> list[str]:
        """The columns' names, each with its group, for formats whose cells cannot span."""
        return [", ".join(filter(None, (column.group, column.name))) for column in self.columns]

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return to_markdown(self)


INDENT = "\u2003"
"""Of a row that belongs to the one above: an em space, which Markdown and HTML keep."""


def number(value: float, digits: int = 3) -> str:
    """A number as tables and captions show it: three decimals, or – where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def to_text(table: Table) -> str:
    """The table for a terminal: columns aligned, notes wrapped at 88 characters."""
    names = tuple(column.name for column in table.columns)
    widths = [max(map(len, cells)) for cells in zip(names, *table.rows, strict=True)]
    groups = []
    first = 0
    for text, span in table.head[0]:
        room = sum(widths[first : first + span]) + 2 * (span - 1)
        # A group's name can be wider than all its columns.
        widths[first + span - 1] += max(0, len(text) - room)
        groups.append(f"{text:^{room}}")
        first += span

    def line(cells: Sequence[str]) -> str:
        rest = (f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([f"{cells[0]:{widths[0]}}", *rest])

    head = ["  ".join(groups), line(names)][-len(table.head) :]
    lines = [table.title, "", *head, "-" * len(line(names)), *map(line, table.rows)]
    notes = [textwrap.fill(note, 88) for note in table.notes]
    text = "\n".join([*(text.rstrip() for text in lines), *([""] if notes else []), *notes])
    # Not every terminal's encoding has these, and a long run must not end in an error over one.
    return text.translate({ord("–"): "-", ord("−"): "-", ord("³"): "3", ord(INDENT): " "})


def to_markdown(table: Table) -> str:
    """The table for GitHub: the title in bold above it, the notes as paragraphs below."""
    rule = [":---"] + ["---:"] * (len(table.columns) - 1)
    head, *rows = [[_markdown(cell) for cell in line] for line in (table.flat_head, *table.rows)]
    lines = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))
    parts = [f"**{_markdown(table.title)}**", lines, *map(_markdown, table.notes)]
    return "\n\n".join(parts) + "\n"


def to_csv(table: Table) -> str:
    """The head and the rows, without title and notes."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.flat_head, *table.rows])
    return stream.getvalue()


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {character: f"${character}$" for character in "<>|"}
    # A row that starts with one of these would be an argument of the line break above it.
    | {character: f"{{{character}}}" for character in "[*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"–": "--", "−": "$-$", "³": "$^3$", INDENT: r"\quad{}"}
)


WIDE_COLUMNS = 8
"""From so many columns on, a table is set small, with its heads over several lines."""

MOST_ROWS = 40
"""More rows than this do not fit on a page in LaTeX, so the table is a longtable."""


def to_latex(table: Table) -> str:
    r"""The table, its title the caption; its first line says which packages it needs.

    A float, or of more than `MOST_ROWS` rows a longtable. Every table of the report fits a text
    width of 122 mm at 10 points, Table 1 with the paper's values too.
    """
    wide = len(table.columns) >= WIDE_COLUMNS
    names = [column.name for column in table.columns]
    cells = itertools.starmap(_latex_head, enumerate(names)) if wide else map(_latex, names)
    head, *rows = [" & ".join(r) + r" \\" for r in (cells, *(map(_latex, r) for r in table.rows))]
    heads = [r"\toprule", *_latex_groups(table), head, r"\midrule"]
    notes = [rf"\par\smallskip{{\footnotesize {_latex(note)}\par}}" for note in table.notes]
    caption = rf"\caption{{{_latex(table.title)}}}"
    columns = f"l{'r' * (len(names) - 1)}"
    # A wide one has little room between its columns, and then what the text width leaves.
    small = [r"\footnotesize", r"\setlength{\tabcolsep}{2pt}"] if wide else []
    columns = rf"@{{\extracolsep{{\fill}}}}{columns}@{{}}" if wide else columns
    if len(table.rows) > MOST_ROWS:
        first = [rf"\begin{{longtable}}{{{columns}}}", caption + r" \\"]
        sides = [r"\setlength{\LTleft}{0pt}", r"\setlength{\LTright}{0pt}"] if wide else []
        again = [r"\endfirsthead", *heads, r"\endhead", r"\bottomrule", r"\endfoot"]
        lines = [
            *(r"% \usepackage{booktabs,longtable}", r"\begingroup", *small, *sides),
            *(*first, *heads, *again, *rows, r"\end{longtable}", *notes, r"\endgroup"),
        ]
    else:
        kind, width = ("tabular*", r"{\linewidth}") if wide else ("tabular", "")
        lines = [
            *(r"% \usepackage{booktabs}", r"\begin{table}", r"\centering", caption, *small),
            *(rf"\begin{{{kind}}}{width}{{{columns}}}", *heads, *rows, r"\bottomrule"),
            *(rf"\end{{{kind}}}", *notes, r"\end{table}"),
        ]
    return "\n".join(lines) + "\n"


def _latex_groups(table: Table) -> list[str]:
    """The line of the groups and that of the rules under them, if there are any."""
    if len(table.head) == 1:
        return []
    groups, rules, first = [], [], 1
    for text, span in table.head[0]:
        groups.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex(text)}}}" if text else "")
        rules.append(rf"\cmidrule(lr){{{first}-{first + span - 1}}}" if text else "")
        first += span
    return [" & ".join(groups) + r" \\", "".join(rules)]


def _latex_head(place: int, name: str) -> str:
    """A column's name, small and over several lines: broken at spaces and hyphens."""
    lines = r"\\".join(map(_latex, re.split(r" (?!%)|(?<=-)", name)))
    side = "r" if place else "l"
    return rf"\scriptsize\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*<|])", r"\\\1", text)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
