"""Examine the files of one case: each fault is found alone, so that it hides no other one."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from kitsjax.check.checked_case import AnnotatorFacts, CheckedCase, ImageFacts, LabelFacts
from kitsjax.check.findings import Finding, sort_findings
from kitsjax.check.judge_image import judge_field, judge_hu
from kitsjax.check.measure import measure_agreement, measure_image, measure_label, round_hu
from kitsjax.check.notes import collected_notes, describe_notes
from kitsjax.check.second_phase import find_second_phase
from kitsjax.data.case import Case
from kitsjax.data.instances import check_kinds, read_instances
from kitsjax.data.kits import LABEL_NAMES, list_annotation_files
from kitsjax.data.normalization import count_hu
from kitsjax.data.preprocess import preprocessed_shape
from kitsjax.errors import GridError, InputError, LabelError, NotFiniteError
from kitsjax.evaluate.evaluate_case import check_straight
from kitsjax.failures import catch, describe_failure
from kitsjax.image.read_nifti import TILT_NOTE, read_grid, read_label, read_volume
from kitsjax.image.volume import Grid, Volume, check_same_grid
from kitsjax.labels import LabelScheme

LEAST_AGREEMENT = 0.5
"""An instance whose annotators agree less, by their mean Dice, is worth a look."""

_NAMES: dict[type[InputError], str] = {
    GridError: "grid mismatch",
    LabelError: "foreign labels",
    NotFiniteError: "NaN",
}
"""Names of faults by their exceptions. Any other exception makes a file unreadable."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def examine_case(case: Case, folder: Path, scheme: LabelScheme, spacing_mm: float) -> CheckedCase:
    """Read a case's image, label and annotations, and collect its facts and faults.

    Args:
        case: the case; files may be missing or broken.
        folder: gets the log of tracebacks if something unforeseen happens.
        scheme: the label scheme of the data set.
        spacing_mm: isotropic voxel edge after preprocessing.
    """
    with collected_notes() as notes:
        examination = _Examination(case, folder, scheme, spacing_mm)
        checked = examination.examine()
    # Tilted axes are a fault of their own.
    told = describe_notes([note for note in notes if note.msg != TILT_NOTE])
    texts = [Finding("note on a file", text) for text in told]
    # Messages name whole paths; the findings stand beside the case's name.
    found = (
        finding._replace(text=_shorten(finding.text, case.folder))
        for finding in (*examination.findings, *texts)
    )
    return CheckedCase(case.case_id, sort_findings(found), *checked)


def _shorten(text: str, folder: Path) -> str:
    """Name files from the case's folder, and the folder by its name."""
    for place in (folder, folder.parent):
        text = text.replace(f"{place}{os.sep}", "")
    return text


class _Examination:
    """The examination of a case, with the faults found so far."""

    def __init__(self, case: Case, folder: Path, scheme: LabelScheme, spacing_mm: float) -> None:
        self.case, self.folder, self.scheme, self.spacing_mm = case, folder, scheme, spacing_mm
        self.findings: list[Finding] = []

    def examine(
        self,
    ) -> tuple[Grid | None, ImageFacts | None, LabelFacts | None, AnnotatorFacts | None]:
        """Read all files, and return the facts of a `CheckedCase`."""
        case = self.case
        if case.problem:
            self._add("unreadable case", case.problem)
            return None, None, None, None
        image = self._read(case.image, case.image.name, read_volume)
        names = [case.label.name] if case.dataset else LABEL_NAMES
        read = partial(read_label, labels=self.scheme.values)
        label = self._read(case.label, " or ".join(names), read)
        # The header may be readable though the voxels are not.
        header = image.grid if image else catch(read_grid, case.image)
        grid = None if isinstance(header, InputError) else header
        if grid:
            self._examine_grid(grid)
        fits = label is not None and grid is not None and self._fits(label, grid)
        facts = self._examine_label(label) if label else None
        return (
            grid,
            self._examine_image(image, label.array if label and fits else None) if image else None,
            facts,
            self._examine_annotations(grid or (label.grid if label else None), facts),
        )

    def _add(self, name: str, text: str) -> None:
        self.findings.append(Finding(name, text))

    def _attempt(
        self,
        source: Path,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result | InputError:
        """Call a function; what it raises is returned, and becomes a fault of the source."""
        result = catch(function, *args, **kwargs)
        if isinstance(result, InputError):
            self._add_failure(source, result)
        return result

    def _add_failure(self, source: Path, error: InputError) -> None:
        name = _NAMES.get(type(error), "unreadable file")
        self._add(name, describe_failure(error, source, self.folder))

    def _require(self, name: str, check: Callable[..., object], *args: object) -> bool:
        """Call a check, and return whether it passes; what it raises is a fault of this name."""
        failure = catch(check, *args)
        if isinstance(failure, InputError):
            self._add(name, describe_failure(failure, self.case.place, self.folder))
        return not isinstance(failure, InputError)

    def _read(self, path: Path, names: str, read: Callable[[Path], Volume]) -> Volume | None:
        if not os.path.lexists(path):
            self._add("missing file", f"no {names}; add it")
            return None
        volume = self._attempt(path, read, path)
        return None if isinstance(volume, InputError) else volume

    def _fits(self, label: Volume, grid: Grid) -> bool:
        return self._attempt(self.case.label, check_same_grid, grid, label.grid) is None

    def _examine_grid(self, grid: Grid) -> None:
        self._require("tilted axes", check_straight, grid)
        # A wrong spacing makes any field of view small or large.
        if self._require("wrong spacing", preprocessed_shape, grid, self.spacing_mm):
            self.findings += judge_field(grid)

    def _examine_image(self, image: Volume, label: np.ndarray | None) -> ImageFacts:
        """Judge an image; `label` is the label map (z, y, x) on its grid, if there is one."""
        hu = round_hu(image)
        histogram = count_hu(hu)
        labeled = None if label is None else hu[(label > 0) & (label != self.scheme.ignore)]
        self.findings += judge_hu(histogram, labeled)
        if label is not None:
            self.findings += find_second_phase(hu, label, image.spacing_mm)
        return measure_image(image, histogram, label, self.scheme)

    def _examine_label(self, label: Volume) -> LabelFacts:
        facts = measure_label(label, self.scheme)
        if not any(facts.volumes_cm3.values()):
            self._add("empty label", f"{label.grid.name}: no voxel is labeled; restore it")
        return facts

    def _examine_annotations(
        self, grid: Grid | None, label: LabelFacts | None
    ) -> AnnotatorFacts | None:
        """Compare the annotators; every annotation must lie on the grid. Only KiTS21 has them."""
        folder = self.case.annotations
        if folder is None or grid is None or not self.scheme.is_kits:
            return None
        instances = catch(read_instances, folder, grid)
        if isinstance(instances, InputError):
            self._examine_files(folder, grid, instances)
            return None
        if label:
            kinds = [kind for kind, volume in label.volumes_cm3.items() if volume]
            self._require(
                "incomplete annotations", check_kinds, folder, instances, kinds, self.case.label
            )
        facts, agreements = measure_agreement(instances)
        for instance, agreement in zip(instances, agreements, strict=True):
            if agreement < LEAST_AGREEMENT:
                self._add(
                    "annotators disagree",
                    f"the mean Dice between two annotations of {instance.kind} {instance.number} "
                    f"is {agreement:.2f}",
                )
        return facts

    def _examine_files(self, folder: Path, grid: Grid, failure: InputError) -> None:
        """Add the faults of all annotation files, of which `read_instances` failed at the first.

        Args:
            folder: folder of the annotations.
            grid: the grid that every annotation must lie on.
            failure: what `read_instances` raised. It may be of no file, such as a wrong name.
        """
        found = [
            self._attempt(path, _read_annotation, path, grid)
            for path in list_annotation_files(folder)
        ]
        if str(failure) not in map(str, found):
            self._add_failure(folder, failure)


def _read_annotation(path: Path, grid: Grid) -> None:
    """Read an annotation as `read_instances` does; raises as it does."""
    check_same_grid(read_label(path, (0, 1)).grid, grid)
