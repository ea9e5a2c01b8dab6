"""Prepare a data set from its settings: make the phantom if asked for, find cases, preprocess."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kitsjax.data.cache import cache_folder, count_others, locate_case
from kitsjax.data.case import Case
from kitsjax.data.instances import annotator_numbers
from kitsjax.data.label_source import annotator_number
from kitsjax.data.normalization import measure_intensities
from kitsjax.data.open_dataset import RawDataset, open_dataset, resolve_scheme
from kitsjax.data.preprocess_cases import PreprocessReport, preprocess_cases
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.failures import catch
from kitsjax.files import check_folder
from kitsjax.labels import KITS, MAJORITY, LabelScheme
from kitsjax.make_scheme import make_scheme
from kitsjax.phantom.dataset import make_phantom
from kitsjax.processes import Shard, take_shard
from kitsjax.settings import DataSettings, LabelSettings, PhantomSettings, PreprocessSettings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSet:
    """A data set that is ready for training.

    Attributes:
        cases: its cases, sorted by id.
        folder: the folder of their preprocessed cases.
        report: what preprocessing did.
        scheme: what the values of their labels mean.
    """

    cases: list[Case]
    folder: Path
    report: PreprocessReport
    scheme: LabelScheme = KITS

    @property
    def preprocessed(self) -> dict[str, PreprocessedCase]:
        """The preprocessed cases by case id, without those that failed."""
        return self.report.cases


def prepare_data(
    data: DataSettings,
    phantom: PhantomSettings,
    preprocess: PreprocessSettings,
    shard: Shard = (0, 1),
    labels: LabelSettings = LabelSettings(),  # noqa: B008 (it is frozen)
) -> DataSet:
    """Make the phantom's missing cases if asked for, then preprocess what is not up to date.

    Cases that fail are listed in the report; all others are ready.

    Args:
        data, phantom, preprocess, labels: sections of the settings.
        shard: only this shard of the cases is preprocessed, and is in the report.

    Raises:
        InputError: A folder cannot be written, which is tested before any work; the data folder is
            missing or has another layout; no case has an annotation by the annotator that
            `data.label_source` names; or the labels do not fit each other or `data.label_source`.
    """
    # The resolved name: "." and links say nothing of the data set.
    root = Path(os.path.realpath(data.root))
    cache = data.cache or root.parent / "preprocessed" / root.name
    _check_cache(Path(cache))
    if data.make_phantom:
        # Before the work of making it; a phantom has KiTS's labels.
        _check_cache(cache_folder(cache, preprocess, make_scheme(labels)))
    found = find_data(data, phantom)
    scheme = resolve_scheme(labels, found)
    _check_label_source(data, scheme)
    folder = cache_folder(cache, preprocess, scheme)
    _check_cache(folder)
    own = take_shard(found.cases, shard)
    annotations = data.label_source != MAJORITY
    report = preprocess_cases(own, folder, preprocess, data.workers, annotations, scheme)
    return DataSet(found.cases, folder, report, scheme)


def find_data(data: DataSettings, phantom: PhantomSettings) -> RawDataset:
    """Find the cases of a data set; make the phantom's missing ones before, if asked for.

    Raises:
        InputError: See `prepare_data`.
    """
    if data.make_phantom:
        check_folder(data.root, "data.root")
        make_phantom(
            data.root, phantom.cases, phantom.matrix, phantom.seed, data.workers,
            domain=phantom.domain,
        )  # fmt: skip
    found = open_dataset(data.root, data.layout)
    if data.make_phantom:
        found = _take_first(found, phantom.cases)
    _check_annotator(data, found.cases)
    return found


def _take_first(found: RawDataset, number: int) -> RawDataset:
    """Take the first cases of a phantom, which another run may have made larger, or does now."""
    cases = [case for case in found.cases if case.seed < number]
    if len(cases) < len(found.cases):
        _logger.warning(
            "%s: holds %d cases, of which the first %d are taken (phantom.cases)",
            found.root, len(found.cases), number,
        )  # fmt: skip
    return replace(found, cases=cases)


def _check_cache(folder: Path) -> None:
    """Test that a folder of preprocessed cases can be written, unless it is there.

    One that is there may be complete, and then need not be writable.
    """
    if not folder.is_dir():
        check_folder(folder, "data.cache")


def fill_intensities(
    preprocess: PreprocessSettings,
    train: Sequence[PreprocessedCase],
    measured: Sequence[float] = (),
) -> PreprocessSettings:
    """Fill in `intensities` where "foreground" normalizes; other settings stay as they are.

    Args:
        preprocess: settings with or without intensities; given ones stay.
        train: the cases to train on; only their labeled voxels count.
        measured: what an earlier call measured for the same run, which is taken as it is.

    Raises:
        InputError: See `measure_intensities`.
    """
    if preprocess.normalize != "foreground" or preprocess.intensities:
        return preprocess
    found = tuple(measured) or measure_intensities(
        (case.foreground_histogram() for case in train), preprocess
    )
    return preprocess.model_copy(update={"intensities": found})


def describe_preparation(data_set: DataSet) -> str:
    """Describe in one line what was preprocessed, what failed, the peak memory and the folder.

    It counts other folders there, which the user may remove.
    """
    report = data_set.report
    peak = f", peak memory {report.peak_gib:.2f} GiB a worker" if report.made else ""
    failed = f", {len(report.failures)} failed" if report.failures else ""
    count = count_others(data_set.folder, _locate_all(data_set))
    others = (
        f" ({count} more there, of older versions or of another data set: remove them for room)"
        if count
        else ""
    )
    return (
        f"preprocessed: {report.made} cases made, {report.kept} up to date{failed}{peak}; "
        f"{data_set.folder}{others}"
    )


def _locate_all(data_set: DataSet) -> Iterator[PreprocessedCase]:
    """Locate all preprocessed cases of a data set, also those that other shards or hosts make."""
    for case in data_set.cases:
        found = data_set.preprocessed.get(case.case_id) or catch(locate_case, case, data_set.folder)
        if isinstance(found, PreprocessedCase):
            yield found


def check_classes(
    root: str,
    train: Sequence[PreprocessedCase],
    held_out: Sequence[PreprocessedCase],
    scheme: LabelScheme,
) -> None:
    """Refuse training cases without any labeled voxel; note classes that no case of a side has.

    KiTS19, for example, has no cysts.

    Args:
        root: the data set, for messages.
        train: the cases to train on.
        held_out: the cases held out; may be empty.
        scheme: the scheme that they were preprocessed with.

    Raises:
        InputError: The labels of all training cases are empty.
    """
    if absent := _absent_classes(train, scheme):
        if len(absent) == len(scheme.foreground):
            raise InputError(
                f"{root}: the labels of all {len(train)} training cases are empty, so there is "
                "nothing to learn; check that data.root has the right labels"
            )
        _logger.warning(
            "%s: no training case has any voxel of %s, so the network cannot learn it",
            root, " or ".join(absent),
        )  # fmt: skip
    if held_out and (absent := _absent_classes(held_out, scheme)):
        _logger.warning(
            "%s: no held-out case has any voxel of %s, so the scores cannot tell whether it is "
            "found", root, " or ".join(absent),
        )  # fmt: skip


def _absent_classes(cases: Sequence[PreprocessedCase], scheme: LabelScheme) -> list[str]:
    """Name the foreground classes that occur in none of the cases."""
    counts = [case.voxels for case in cases]
    absent = (value for value in scheme.foreground if not any(c[value] for c in counts))
    return [scheme.names[value] for value in absent]


def _check_label_source(data: DataSettings, scheme: LabelScheme) -> None:
    """Refuse individual annotations for other labels than KiTS's, or for unannotated voxels."""
    known = scheme.names, scheme.ignore
    if data.label_source != MAJORITY and known != (KITS.names, KITS.ignore):
        raise InputError(
            f"data.label_source = {data.label_source}: individual annotations are of "
            f"{', '.join(KITS.names[1:])} in every voxel, and [labels] says otherwise; choose "
            "majority, or leave out [labels]"
        )


def _check_annotator(data: DataSettings, cases: Sequence[Case]) -> None:
    """Refuse an annotator who annotated nothing.

    Training would take another annotator's annotations for all of theirs. A case without any
    annotations is left to preprocessing, which reports it.
    """
    number = annotator_number(data.label_source)
    folders = [case.annotations for case in cases if case.annotations]
    if number is None or not folders:
        return
    if not any(number in annotator_numbers(folder) for folder in folders):
        raise InputError(
            f"{data.root}: no case has an annotation {number} (data.label_source = "
            f"{data.label_source}); choose another annotator"
        )
