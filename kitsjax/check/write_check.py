"""Write the files of a check: `cases.csv` and the page `check.html`."""

from collections.abc import Sequence
from pathlib import Path

from kitsjax.check.checked_case import CheckedCase
from kitsjax.check.page import render_page
from kitsjax.check.tables import case_table
from kitsjax.files import write_text
from kitsjax.labels import KITS, LabelScheme
from kitsjax.report.table_format import to_csv

TABLE_NAME, PAGE_NAME = "cases.csv", "check.html"


def write_check(
    cases: Sequence[CheckedCase], folder: str | Path, dataset: str, scheme: LabelScheme = KITS
) -> Path:
    """Write table and page to a folder by atomic writes; equal cases give equal bytes.

    Args:
        cases: the cases in the order of the page.
        folder: the folder; made if it does not exist.
        dataset: name of the data set, for the page.
        scheme: its label scheme.

    Returns:
        The page's path.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    write_text(folder / TABLE_NAME, to_csv(case_table(cases, scheme)))
    write_text(folder / PAGE_NAME, render_page(cases, dataset, scheme))
    return folder / PAGE_NAME
