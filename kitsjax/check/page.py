"""HTML page of all checked cases: one file without scripts, the worst cases first."""

from collections.abc import Sequence
from typing import NamedTuple

from kitsjax.check.checked_case import CheckedCase
from kitsjax.check.findings import CLEAN, ERROR, GRADES, WARNING, Finding
from kitsjax.check.tables import describe_totals
from kitsjax.image.volume import axis_codes
from kitsjax.labels import LabelScheme
from kitsjax.report.names import count
from kitsjax.report.table_format import number
from kitsjax.report.template import embed_image, render_template
from kitsjax.report.views import shown_labels

MOST_LESIONS = 3
"""So many lesions of a label are listed with their volumes, the largest first."""

MOST_OTHERS = 2
"""So many labels are named that decide which slice is shown if the first one is not there."""

_NOTHING = "–"


class Filter(NamedTuple):
    """A choice of cases.

    Attributes:
        row: 0 for the grades, 1 for the faults.
        key: class of the cases that it shows; "all" shows every one.
        name: what the page calls it.
        cases: number of cases that it shows.
        grade: grade of the fault, for its color; "" for all cases.
    """

    row: int
    key: str
    name: str
    cases: int
    grade: str


class LabelRow(NamedTuple):
    """A label of a case, as texts: volume and lesions in cm³, the annotators' mean Dice."""

    name: str
    volume: str
    lesions: str
    agreement: str


class Card(NamedTuple):
    """A case as the page shows it.

    Attributes:
        case_id: names the card.
        classes: its grades and faults, by which filters find it.
        grade: its grade, for the color.
        verdict: its errors and warnings, counted.
        findings: its faults.
        pictures: (name of the plane, image as a `data:` URI).
        facts: (term, value).
        agreement: head of the column with the annotators' agreement.
        labels: rows of the table of labels; empty without a readable label.
    """

    case_id: str
    classes: str
    grade: str
    verdict: str
    findings: tuple[Finding, ...]
    pictures: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    agreement: str
    labels: list[LabelRow]


def render_page(cases: Sequence[CheckedCase], dataset: str, scheme: LabelScheme) -> str:
    """Render the page: HTML without scripts, which loads nothing else.

    Every text that comes from files is escaped.

    Args:
        cases: the cases in the order of the page.
        dataset: name of the data set.
        scheme: its label scheme.
    """
    first, *others = (scheme.names[value] for value in shown_labels(scheme))
    return render_template(
        "check/page.html.j2",
        title=dataset,
        lead=f"{describe_totals(cases)}.",
        filters=_make_filters(cases),
        cards=[_make_card(case, scheme) for case in cases],
        colors={scheme.names[value]: scheme.color(value) for value in scheme.foreground},
        shown=(first, ", ".join(f"else {name}" for name in others[:MOST_OTHERS])),
        has_lesions=bool(scheme.lesions),
        has_annotators=scheme.is_kits,
    )


def _make_filters(cases: Sequence[CheckedCase]) -> list[Filter]:
    """Make the choices of cases: all, each grade, and each fault that was found."""
    filters = [Filter(0, "all", "All", len(cases), "")]
    for grade, name in ((ERROR, "Errors"), (WARNING, "Warnings"), (CLEAN, "Clean")):
        shown = sum(grade in _classes(case) for case in cases)
        filters.append(Filter(0, grade, name, shown, grade))
    for name, grade in GRADES.items():
        if shown := sum(_key(name) in _classes(case) for case in cases):
            filters.append(Filter(1, _key(name), name, shown, grade))
    return filters


def _key(name: str) -> str:
    """Return the class of cases with a fault of this name."""
    return "has-" + name.lower().replace(" ", "-")


def _classes(case: CheckedCase) -> list[str]:
    """List the grades of a case's faults, or `CLEAN`, and the faults."""
    grades = [grade for grade in (ERROR, WARNING) if case.fault_names(grade)]
    names = dict.fromkeys(_key(found.name) for found in case.findings)
    return [*(grades or [CLEAN]), *names]


def _make_card(case: CheckedCase, scheme: LabelScheme) -> Card:
    counts = [
        count(len(case.fault_names(grade)), grade)
        for grade in (ERROR, WARNING)
        if case.fault_names(grade)
    ]
    pictures = case.image.pictures if case.image else ()
    return Card(
        case.case_id,
        " ".join(_classes(case)),
        case.grade,
        ", ".join(counts) or CLEAN,
        case.findings,
        [
            (plane, embed_image(picture, "jpeg"))
            for plane, picture in zip(("Axial", "Coronal"), pictures, strict=False)
        ],
        _list_facts(case, scheme),
        f"agreement of {case.annotators.number}" if case.annotators else "agreement",
        _list_labels(case),
    )


def _list_facts(case: CheckedCase, scheme: LabelScheme) -> list[tuple[str, str]]:
    facts = []
    if case.grid:
        facts = [
            ("shape", " × ".join(map(str, case.grid.shape))),
            ("spacing", " × ".join(f"{mm:.3g}" for mm in case.grid.spacing_mm) + " mm"),
            ("axes", axis_codes(case.grid)),
        ]
    if case.image:
        least, low, high, most = (number(value, 0) for value in case.image.hu)
        facts.append(("HU", f"{least} to {most}; 99 % from {low} to {high}"))
    if case.label and scheme.ignore is not None:
        facts.append(("ignored", f"{number(100 * case.label.ignored, 1)} % of the voxels"))
    return facts


def _list_labels(case: CheckedCase) -> list[LabelRow]:
    if case.label is None:
        return []
    dice = case.annotators.dice if case.annotators else {}
    rows = []
    for name, volume in case.label.volumes_cm3.items():
        lesions = case.label.lesions_cm3.get(name)
        agreement = number(dice[name], 2) if name in dice else _NOTHING
        shown = number(volume, 1) if volume else _NOTHING
        rows.append(LabelRow(name, shown, _describe_lesions(lesions), agreement))
    return rows


def _describe_lesions(volumes_cm3: Sequence[float] | None) -> str:
    """Count lesions and list the volumes of the largest, such as "2: 31.0, 0.4"."""
    if not volumes_cm3:
        return _NOTHING
    listed = ", ".join(number(volume, 1) for volume in volumes_cm3[:MOST_LESIONS])
    return f"{len(volumes_cm3)}: {listed}" + ", …" * (len(volumes_cm3) > MOST_LESIONS)
