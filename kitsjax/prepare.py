"""From the data settings to preprocessed cases: phantom if asked for, discovery, preprocessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kitsjax.data.kits import Case, find_cases
from kitsjax.data.preprocess import PreprocessReport, cache_folder, preprocess_cases
from kitsjax.errors import InputError
from kitsjax.labels import MAJORITY
from kitsjax.phantom.dataset import make_phantom
from kitsjax.settings import DataSettings, PhantomSettings, PreprocessSettings


@dataclass(frozen=True)
class DataSet:
    """A data set ready for training: its cases, where they lie preprocessed, what was done."""

    cases: list[Case]
    folder: Path
    report: PreprocessReport


def prepare_data(
    data: DataSettings, phantom: PhantomSettings, preprocess: PreprocessSettings
) -> DataSet:
    """Make the phantom if it is asked for and lacks cases, then preprocess what is not up to date.

    Cases that fail stand in the report; the others are ready.

    Raises:
        InputError: the data folder is missing or its layout wrong.
    """
    if data.make_phantom:
        make_phantom(data.root, phantom.cases, phantom.matrix, phantom.seed, data.workers)
    cases = find_cases(data.root)
    _check_annotator(data, cases)
    cache = data.cache or Path(data.root).resolve().parent / "preprocessed" / Path(data.root).name
    folder = cache_folder(cache, preprocess)
    annotations = data.label_source != MAJORITY
    report = preprocess_cases(cases, folder, preprocess, data.workers, annotations)
    return DataSet(cases, folder, report)


def _check_annotator(data: DataSettings, cases: Sequence[Case]) -> None:
    """Refuse an annotator of whom there is nothing: a case that lacks one takes another's."""
    annotator = data.label_source.removeprefix("annotator_")
    annotated = [case.annotations for case in cases if case.annotations]
    if annotator == data.label_source or not annotated:
        return
    if not any(any(folder.glob(f"*_annotation-{annotator}.nii.gz")) for folder in annotated):
        raise InputError(
            f"{data.root}: no case has an annotation {annotator} (data.label_source = "
            f"{data.label_source}); choose another annotator"
        )


def describe_preparation(data_set: DataSet) -> str:
    """One line: cases made and kept, failures, peak memory of a worker, the folder."""
    report = data_set.report
    peak = f", peak memory {report.peak_gib:.2f} GiB a worker" if report.made else ""
    failed = f", {len(report.failures)} failed" if report.failures else ""
    return (
        f"preprocessed: {report.made} cases made, {report.kept} up to date{failed}{peak}; "
        f"{data_set.folder}"
    )
