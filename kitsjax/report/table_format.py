"""Tables, and three formats to write them in: text, Markdown and CSV; `latex` has the fourth."""

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
