"""Tables of all checked cases: a short one for the terminal, and `cases.csv` with every fact."""

from collections.abc import Sequence

from kitsjax.check.checked_case import CheckedCase
from kitsjax.check.findings import CLEAN, ERROR, WARNING
from kitsjax.image.volume import axis_codes
from kitsjax.labels import LabelScheme
from kitsjax.report.names import count
from kitsjax.report.table_format import Column, Table

_AXES = ("z", "y", "x")


def describe_totals(cases: Sequence[CheckedCase]) -> str:
    """Count the cases by grade, such as "3 cases: 1 with errors, 0 with warnings only, 2 clean"."""
    errors, warnings, clean = (
        sum(case.grade == grade for case in cases) for grade in (ERROR, WARNING, CLEAN)
    )
    all_cases = count(len(cases), "case")
    return f"{all_cases}: {errors} with errors, {warnings} with warnings only, {clean} clean"


def fault_lines(cases: Sequence[CheckedCase]) -> list[str]:
    """Return a line for each case with a fault, with its errors and warnings, below a head.

    Without any fault there is no line.
    """
    rows = [
        (case.case_id, *(", ".join(case.fault_names(grade)) or "-" for grade in (ERROR, WARNING)))
        for case in cases
        if case.findings
    ]
    if not rows:
        return []
    rows = [("case", "errors", "warnings"), *rows]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{case:{first}}  {errors:{second}}  {warnings}" for case, errors, warnings in rows]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def case_table(cases: Sequence[CheckedCase], scheme: LabelScheme) -> Table:
    """Make the table of every case with its facts and faults; a fact that is not known is empty.

    Columns that the label scheme cannot fill are left out: those of lesions, of annotators, of
    what is ignored.
    """
    labels = scheme.names[1:]
    lesions = labels if scheme.lesions else ()
    annotated = labels if scheme.is_kits else ()
    columns = [
        "case", "grade", "errors", "warnings", *(f"shape_{axis}" for axis in _AXES),
        *(f"spacing_{axis}_mm" for axis in _AXES), "orientation",
        "hu_least", "hu_0.5_percent", "hu_99.5_percent", "hu_most",
        *(f"{name}_cm3" for name in labels), *(f"{name}_lesions" for name in lesions),
        *(["annotators"] if annotated else []), *(f"{name}_agreement" for name in annotated),
        *([] if scheme.ignore is None else ["ignored_percent"]), "findings",
    ]  # fmt: skip
    rows = tuple(tuple(_list_cells(case, scheme)) for case in cases)
    return Table("Checked cases", tuple(map(Column, columns)), rows)


def _list_cells(case: CheckedCase, scheme: LabelScheme) -> list[str]:
    shape = map(str, case.grid.shape) if case.grid else [""] * 3
    spacing = (f"{mm:.6g}" for mm in case.grid.spacing_mm) if case.grid else [""] * 3
    hu = (f"{value:g}" for value in case.image.hu) if case.image else [""] * 4
    labels = scheme.names[1:]
    volumes = case.label.volumes_cm3 if case.label else {}
    lesions = case.label.lesions_cm3 if case.label else {}
    ignored = f"{100 * case.label.ignored:.2f}" if case.label else ""
    return [
        case.case_id, case.grade, str(len(case.fault_names(ERROR))),
        str(len(case.fault_names(WARNING))), *shape, *spacing,
        axis_codes(case.grid) if case.grid else "", *hu,
        *(f"{volumes[name]:.3f}" if name in volumes else "" for name in labels),
        *(str(len(lesions[name])) if name in lesions else "" for name in labels if scheme.lesions),
        *(_list_agreement(case, labels) if scheme.is_kits else []),
        *([] if scheme.ignore is None else [ignored]),
        "; ".join(f"{found.name}: {found.text}" for found in case.findings),
    ]  # fmt: skip


def _list_agreement(case: CheckedCase, labels: Sequence[str]) -> list[str]:
    """List the number of annotators and their agreement on each label."""
    if case.annotators is None:
        return [""] * (1 + len(labels))
    dice = case.annotators.dice
    agreement = (f"{dice[name]:.4f}" if name in dice else "" for name in labels)
    return [str(case.annotators.number), *agreement]
