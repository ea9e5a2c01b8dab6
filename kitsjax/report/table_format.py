"""Tables, and four formats to write them in: text, Markdown, CSV and LaTeX."""

import csv
import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import NamedTuple


class Column(NamedTuple):
    """A column's name, and the name of the group that it forms with its neighbors, if any."""

    name: str
    group: str = ""


class HeadCell(NamedTuple):
    """A text of the head that spans a number of columns."""

    text: str
    span: int


@dataclass(frozen=True)
class Table:
    """A table, independent of the format it will be written in.

    Attributes:
        title: stands above the table.
        columns: names of the columns, with their groups.
        rows: cells of each row; the first one names the row.
        notes: paragraphs below the table.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> list[list[HeadCell]]:
        """Lines of the head: the columns' names, and above them their groups, if there are any."""
        names = [HeadCell(column.name, 1) for column in self.columns]
        # Columns without a group never merge with their neighbors.
        runs = itertools.groupby(self.columns, lambda c: (c.group, "" if c.group else c.name))
        groups = [HeadCell(group, len(list(columns))) for (group, _), columns in runs]
        return [groups, names] if any(group.text for group in groups) else [names]

    @property
    def flat_head(self) -> list[str]:
        """Names of the columns, each with its group, for formats whose cells cannot span."""
        return [", ".join(filter(None, (column.group, column.name))) for column in self.columns]

    def _repr_markdown_(self) -> str:
        """Show the table in a notebook."""
        return to_markdown(self)


INDENT = "\u2003"
"""The name of a row that belongs to the one above begins with this em space, which Markdown and
HTML keep."""


def number(value: float, digits: int = 3) -> str:
    """Write a number for a table or a caption; nan becomes –."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def to_text(table: Table) -> str:
    """Write a table for a terminal: columns aligned, notes wrapped at 88 characters."""
    names = tuple(column.name for column in table.columns)
    widths = [max(map(len, cells)) for cells in zip(names, *table.rows, strict=True)]
    groups = []
    first = 0
    for text, span in table.head[0]:
        width = sum(widths[first : first + span]) + 2 * (span - 1)
        # A group's name can be wider than all its columns; the last one then grows.
        widths[first + span - 1] += max(0, len(text) - width)
        groups.append(f"{text:^{width}}")
        first += span

    def line(cells: Sequence[str]) -> str:
        rest = (f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([f"{cells[0]:{widths[0]}}", *rest])

    head = ["  ".join(groups), line(names)][-len(table.head) :]
    lines = [table.title, "", *head, "-" * len(line(names)), *map(line, table.rows)]
    notes = [textwrap.fill(note, 88) for note in table.notes]
    text = "\n".join([*(text.rstrip() for text in lines), *([""] if notes else []), *notes])
    # Some terminals cannot encode these characters, and a long run must not end in that error.
    return text.translate({ord("–"): "-", ord("−"): "-", ord("³"): "3", ord(INDENT): " "})


def to_markdown(table: Table) -> str:
    """Write a table for GitHub: the title in bold above it, the notes as paragraphs below."""
    rule = [":---"] + ["---:"] * (len(table.columns) - 1)
    head, *rows = [[_markdown(cell) for cell in line] for line in (table.flat_head, *table.rows)]
    lines = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))
    parts = [f"**{_markdown(table.title)}**", lines, *map(_markdown, table.notes)]
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    """Escape a text for a cell in Markdown."""
    return re.sub(r"([\\`*<|])", r"\\\1", text)


def to_csv(table: Table) -> str:
    """Write the head and the rows as CSV, without title and notes."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.flat_head, *table.rows])
    return stream.getvalue()


WIDE_COLUMNS = 8
"""Tables of at least this many columns are set in small type, with heads over several lines."""

MOST_ROWS = 40
"""More rows than this do not fit on a page in LaTeX, so the table becomes a longtable."""


def to_latex(table: Table) -> str:
    r"""Write a table in LaTeX, with its title as the caption.

    The first line, a comment, names the packages that the table needs. A table of up to
    `MOST_ROWS` rows is a float, a longer one a longtable. Every table of the report fits a text
    width of 122 mm at 10 points, even Table 1 with the paper's values.
    """
    lines = _long_table(table) if len(table.rows) > MOST_ROWS else _floating_table(table)
    return "\n".join(lines) + "\n"


def _floating_table(table: Table) -> list[str]:
    wide = _is_wide(table)
    kind, width = ("tabular*", r"{\linewidth}") if wide else ("tabular", "")
    return [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        _latex_caption(table),
        *(_SMALL if wide else ()),
        rf"\begin{{{kind}}}{width}{{{_latex_columns(table)}}}",
        *_latex_head(table),
        *_latex_rows(table),
        r"\bottomrule",
        rf"\end{{{kind}}}",
        *_latex_notes(table),
        r"\end{table}",
    ]


def _long_table(table: Table) -> list[str]:
    head = _latex_head(table)
    full_width = (*_SMALL, r"\setlength{\LTleft}{0pt}", r"\setlength{\LTright}{0pt}")
    return [
        r"% \usepackage{booktabs,longtable}",
        r"\begingroup",
        *(full_width if _is_wide(table) else ()),
        rf"\begin{{longtable}}{{{_latex_columns(table)}}}",
        # The first page's head follows the caption; later pages repeat the head alone.
        _latex_caption(table) + r" \\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *_latex_rows(table),
        r"\end{longtable}",
        *_latex_notes(table),
        r"\endgroup",
    ]


_SMALL = (r"\footnotesize", r"\setlength{\tabcolsep}{2pt}")
"""Small type with little space between the columns, for wide tables."""


def _is_wide(table: Table) -> bool:
    return len(table.columns) >= WIDE_COLUMNS


def _latex_caption(table: Table) -> str:
    return rf"\caption{{{_latex(table.title)}}}"


def _latex_columns(table: Table) -> str:
    columns = f"l{'r' * (len(table.columns) - 1)}"
    # The columns of a wide table share what they leave of the text width.
    return rf"@{{\extracolsep{{\fill}}}}{columns}@{{}}" if _is_wide(table) else columns


def _latex_head(table: Table) -> list[str]:
    names = [column.name for column in table.columns]
    cells = (
        itertools.starmap(_break_name, enumerate(names)) if _is_wide(table) else map(_latex, names)
    )
    return [r"\toprule", *_latex_groups(table), _latex_line(cells), r"\midrule"]


def _latex_groups(table: Table) -> list[str]:
    """Write the line of the groups and the rules below them, if there are any groups."""
    if len(table.head) == 1:
        return []
    groups, rules, first = [], [], 1
    for text, span in table.head[0]:
        groups.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex(text)}}}" if text else "")
        rules.append(rf"\cmidrule(lr){{{first}-{first + span - 1}}}" if text else "")
        first += span
    return [_latex_line(groups), "".join(rules)]


def _break_name(place: int, name: str) -> str:
    """Write a column's name small and over several lines, broken at spaces and hyphens."""
    lines = r"\\".join(map(_latex, re.split(r" (?!%)|(?<=-)", name)))
    side = "r" if place else "l"
    return rf"\scriptsize\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}"


def _latex_rows(table: Table) -> list[str]:
    return [_latex_line(map(_latex, row)) for row in table.rows]


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_notes(table: Table) -> list[str]:
    return [rf"\par\smallskip{{\footnotesize {_latex(note)}\par}}" for note in table.notes]


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {character: f"${character}$" for character in "<>|"}
    # LaTeX would take one of these at the start of a row as an argument of the line break above.
    | {character: f"{{{character}}}" for character in "[*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"–": "--", "−": "$-$", "³": "$^3$", INDENT: r"\quad{}"}
)


def _latex(text: str) -> str:
    """Escape a text for LaTeX."""
    return text.translate(_LATEX)
