"""The preparation of a run's data: the hosts share the cases, and each finds all of them made."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from kitsjax.data.cache import is_stored, locate_case
from kitsjax.data.case import Case
from kitsjax.data.preprocess_cases import PreprocessReport
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError
from kitsjax.hosts import barrier, exchange, host_count, host_index, is_main
from kitsjax.labels import MAJORITY
from kitsjax.prepare import DataSet, describe_preparation, find_data, prepare_data
from kitsjax.settings import Settings
from kitsjax.train.agreement import STALE_SECONDS, agree_on_data, comes_true


def prepare_together(settings: Settings) -> DataSet:
    """Preprocess the cases of a run, each on one host, and print what was done.

    Raises:
        InputError: a case failed, on whichever host; the main process prints a line for each. Or
            the hosts see other data or another cache.
    """
    data = settings.data
    if host_count() > 1:
        if data.make_phantom:
            # The others would take a phantom that is being made for the whole one.
            if is_main():
                find_data(data, settings.phantom)
            barrier("making the phantom")
        agree_on_data(find_data(data, settings.phantom), data.label_source != MAJORITY)
    own = prepare_data(
        data, settings.phantom, settings.preprocess, (host_index(), host_count()), settings.labels
    )
    report = _merge_reports(own.report)
    if is_main():
        print(describe_preparation(replace(own, report=report)), flush=True)
        for _, message in report.failures:
            print(f"failed: {message}", file=sys.stderr)
    if report.failures:
        where = "above" if is_main() else "by host 0"
        raise InputError(
            f"{data.root}: {len(report.failures)} of {len(own.cases)} cases cannot be used, as "
            f"listed {where}; correct them, or move them out of the data folder"
        )
    annotations = data.label_source != MAJORITY
    cases = {
        case.case_id: report.cases.get(case.case_id) or _find_made(case, own.folder, annotations)
        for case in own.cases
    }
    return replace(own, report=replace(report, cases=cases))


def _merge_reports(own: PreprocessReport) -> PreprocessReport:
    """Add up what all hosts did; the cases are this host's own."""
    text = json.dumps([own.made, own.kept, own.failures, own.peak_gib])
    reports = [json.loads(text) for text in exchange("preprocessing", text)]
    made, kept, failures, peaks = zip(*reports, strict=True)
    every = sorted((case_id, message) for part in failures for case_id, message in part)
    return replace(own, made=sum(made), kept=sum(kept), failures=every, peak_gib=max(peaks))


def _find_made(case: Case, folder: Path, annotations: bool) -> PreprocessedCase:
    """Find a case that another host has preprocessed."""
    found = locate_case(case, folder, annotations)
    if not comes_true(lambda: is_stored(found)):
        raise InputError(
            f"{found.folder}: another host has preprocessed this case, and it is not there after "
            f"{STALE_SECONDS:.0f} s; put data.cache on a disk that all hosts share"
        )
    return found
