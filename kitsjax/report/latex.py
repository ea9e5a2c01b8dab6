"""Tables in LaTeX, for a page of a paper: small type, heads over several lines, and blocks."""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kitsjax.report.table_format import INDENT, Table

WIDE_COLUMNS = 8
"""Tables of at least this many columns are set in small type, with heads over several lines."""

MOST_COLUMNS = 11
"""The columns of more do not fit beside each other; KiTS's table of cases has so many."""

LINE_CHARACTERS = 76
"""About so many characters of small type, with one between two columns, fill a text width of
122 mm."""

MOST_ROWS = 40
"""More rows than this do not fit on a page in LaTeX, so the table becomes a longtable."""


def to_latex(table: Table) -> str:
    r"""Write a table in LaTeX, with its title as the caption.

    The first line, a comment, names the packages that the table needs. A table of up to
    `MOST_ROWS` rows is a float, a longer one a longtable. One of more than `MOST_COLUMNS` columns
    is set in blocks, one under another. Every table of the report fits a text width of 122 mm at
    10 points, even Table 1 with the paper's values.
    """
    blocks = _split_columns(table)
    too_long = len(table.rows) * len(blocks) > MOST_ROWS
    lines = _long_table(table, blocks) if too_long else _floating_table(table, blocks)
    return "\n".join(lines) + "\n"


def _split_columns(table: Table) -> list[Table]:
    """Split a table of many columns into blocks, each with the first column.

    A group of columns is a block, or several of about the same number of columns.
    """
    if len(table.columns) <= MOST_COLUMNS:
        return [table]
    first, *widths = (
        max(map(len, (*_break_name(column.name), *cells))) + 1
        for column, *cells in zip(table.columns, *table.rows, strict=True)
    )
    blocks = []
    for _, group in itertools.groupby(enumerate(table.columns[1:]), lambda c: c[1].group):
        places = [place for place, _ in group]
        count = math.ceil(sum(widths[place] for place in places) / max(LINE_CHARACTERS - first, 1))
        size = math.ceil(len(places) / count)
        cuts = (places[at : at + size] for at in range(0, len(places), size))
        blocks += [_take_columns(table, (0, *(place + 1 for place in cut))) for cut in cuts]
    return blocks


def _take_columns(table: Table, places: Sequence[int]) -> Table:
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in places), rows=rows)


def _floating_table(table: Table, blocks: Sequence[Table]) -> list[str]:
    wide = _is_wide(table)
    kind, width = ("tabular*", r"{\linewidth}") if wide else ("tabular", "")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        _latex_caption(table),
        *(_SMALL if wide else ()),
    ]
    for block in blocks:
        lines += [
            *([r"\par\medskip"] if block is not blocks[0] else []),
            rf"\begin{{{kind}}}{width}{{{_latex_columns(block, wide)}}}",
            *_latex_head(block, wide),
            *_latex_rows(block),
            r"\bottomrule",
            rf"\end{{{kind}}}",
        ]
    return [*lines, *_latex_notes(table), r"\end{table}"]


def _long_table(table: Table, blocks: Sequence[Table]) -> list[str]:
    wide = _is_wide(table)
    full_width = (*_SMALL, r"\setlength{\LTleft}{0pt}", r"\setlength{\LTright}{0pt}")
    lines = [
        r"% \usepackage{booktabs,longtable}",
        r"\begingroup",
        *(full_width if wide else ()),
    ]
    # The first page's head follows the caption; later pages repeat the head alone.
    above = [_latex_caption(table) + r" \\"]
    for block in blocks:
        head = _latex_head(block, wide)
        lines += [
            rf"\begin{{longtable}}{{{_latex_columns(block, wide)}}}",
            *above,
            *head,
            r"\endfirsthead",
            *head,
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *_latex_rows(block),
            r"\end{longtable}",
        ]
        above = []
    # Each longtable counts as a table of its own.
    uncounted = [rf"\addtocounter{{table}}{{{1 - len(blocks)}}}"] if len(blocks) > 1 else []
    return [*lines, *uncounted, *_latex_notes(table), r"\endgroup"]


_SMALL = (r"\footnotesize", r"\setlength{\tabcolsep}{2pt}")
"""Small type with little space between the columns, for wide tables."""


def _is_wide(table: Table) -> bool:
    return len(table.columns) >= WIDE_COLUMNS


def _latex_caption(table: Table) -> str:
    return rf"\caption{{{_latex(table.title)}}}"


def _latex_columns(table: Table, wide: bool) -> str:
    columns = f"l{'r' * (len(table.columns) - 1)}"
    # The columns of a wide table share what they leave of the text width.
    return rf"@{{\extracolsep{{\fill}}}}{columns}@{{}}" if wide else columns


def _latex_head(table: Table, wide: bool) -> list[str]:
    names = [column.name for column in table.columns]
    cells = itertools.starmap(_stack_name, enumerate(names)) if wide else map(_latex, names)
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


def _break_name(name: str) -> list[str]:
    """Break a column's name at spaces and hyphens."""
    return re.split(r" (?!%)|(?<=-)", name)


def _stack_name(place: int, name: str) -> str:
    """Write a column's name small and over several lines."""
    lines = r"\\".join(map(_latex, _break_name(name)))
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
