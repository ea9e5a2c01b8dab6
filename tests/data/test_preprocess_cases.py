"""Preprocessing a folder of cases: only what changed, failures apart, and killed runs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from raw_cases import SETTINGS, made_at, write_case

from kitsjax.data.kits import find_cases
from kitsjax.data.preprocess import resample_hu
from kitsjax.data.preprocess_case import preprocess_case
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.data.stored_instances import load_instances
from kitsjax.errors import InputError
from kitsjax.processes import host_name, machine_id


@pytest.mark.usefixtures("in_process")
def test_only_what_changed_is_made_again(tmp_path):
    for number in range(3):
        write_case(tmp_path / "raw", number)
    cases = find_cases(tmp_path / "raw")
    folder = tmp_path / "out"
    first = preprocess_cases(cases, folder, SETTINGS)
    assert (first.made, list(first.cases)) == (3, [case.case_id for case in cases])
    files = made_at(folder)
    again = preprocess_cases(cases, folder, SETTINGS)
    assert (again.made, again.kept, again.cases) == (0, 3, first.cases)
    os.utime(cases[1].image)
    changed = preprocess_cases(cases, folder, SETTINGS)
    assert (changed.made, changed.kept) == (1, 2)
    assert [changed.cases[i] == first.cases[i] for i in first.cases] == [True, False, True]
    # A run that reads the case as it was goes on reading it.
    assert made_at(folder).items() > files.items()


@pytest.mark.usefixtures("in_process")
def test_annotations_follow_their_files(tmp_path):
    for number in range(3):
        write_case(tmp_path / "raw", number, annotations=2)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    preprocess_cases(cases, folder, SETTINGS)
    before = made_at(folder)
    report = preprocess_cases(cases, folder, SETTINGS, annotations=True)
    assert (report.made, report.failures) == (3, [])
    added = made_at(folder)
    assert {name: added[name] for name in before} == before
    own = {case.annotations.relative_to(folder) for case in report.cases.values()}
    assert {name.parent for name in set(added) - set(before)} == own
    assert preprocess_cases(cases, folder, SETTINGS, annotations=True).kept == 3
    assert preprocess_cases(cases, folder, SETTINGS).kept == 3
    (cases[1].annotations / "kidney_instance-1_annotation-2.nii.gz").unlink()
    assert preprocess_cases(cases, folder, SETTINGS).kept == 3
    fewer = preprocess_cases(cases, folder, SETTINGS, annotations=True)
    assert fewer.made == 1
    ours = fewer.cases["case_00001"]
    new = set(made_at(folder)) - set(added)
    assert {name.parent for name in new} == {ours.annotations.relative_to(folder)}
    kidney, _ = load_instances(ours.annotations)
    assert kidney.annotations == (1,)
    # A run that reads the annotations as they were goes on reading them.
    kidney, _ = load_instances(report.cases["case_00001"].annotations)
    assert kidney.annotations == (1, 2)


@pytest.fixture
def annotated_case(tmp_path, in_process):
    """The cache, the annotated case in it, and the function that brings both up to date."""
    write_case(tmp_path / "raw", 0, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    update = partial(preprocess_cases, cases, folder, SETTINGS, annotations=True)
    return folder, update().cases["case_00000"], update


def test_damaged_case_is_made_again(annotated_case):
    folder, stored, update = annotated_case
    for record in (stored.folder / "case.json", stored.annotations / "instances.json"):
        whole = record.read_text()
        record.write_text(whole[:10])
        assert update().made == 1
        assert record.read_text() == whole
    assert [path.name for path in folder.iterdir()] == [stored.folder.name]


def test_damaged_arrays_are_made_again(annotated_case):
    _, stored, update = annotated_case
    for array in (stored.folder / "image.npy", stored.annotations / "masks.npy"):
        whole = array.read_bytes()
        for damage in (lambda a=array: a.unlink(), lambda a=array: a.write_bytes(b"short")):
            damage()
            assert update().made == 1
            assert array.read_bytes() == whole


@pytest.mark.usefixtures("in_process")
def test_first_of_two_makes_the_case(tmp_path, monkeypatch):
    """Another process finishes the case while this one is at work on it."""
    write_case(tmp_path / "raw", 0, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    others = []

    def overtaken(volume, settings):
        monkeypatch.setattr("kitsjax.data.preprocess_case.resample_hu", resample_hu)
        others.append(preprocess_cases(cases, folder, SETTINGS, annotations=True))
        others.append(made_at(folder))
        return resample_hu(volume, settings)

    monkeypatch.setattr("kitsjax.data.preprocess_case.resample_hu", overtaken)
    ours = preprocess_cases(cases, folder, SETTINGS, annotations=True)
    first, files = others
    assert (first.made, first.kept, first.failures) == (1, 0, [])
    assert (ours.made, ours.kept, ours.failures) == (0, 1, [])
    assert made_at(folder) == files


@pytest.mark.usefixtures("in_process")
def test_who_completes_a_case_has_made_it(tmp_path, monkeypatch):
    """Another process adds the annotations to the image that this one has made."""
    write_case(tmp_path / "raw", 0, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    others = []

    def overtaken(*arguments):
        monkeypatch.setattr("kitsjax.data.preprocess_cases.preprocess_case", preprocess_case)
        made = preprocess_case(*arguments)
        others.append(preprocess_cases(cases, folder, SETTINGS, annotations=True).made)
        return made

    monkeypatch.setattr("kitsjax.data.preprocess_cases.preprocess_case", overtaken)
    ours = preprocess_cases(cases, folder, SETTINGS, annotations=True)
    assert (others, ours.made, ours.kept) == ([1], 0, 1)


@pytest.mark.usefixtures("in_process")
def test_case_made_meanwhile_is_not_begun(tmp_path, monkeypatch):
    """Another process made the case after this one had listed what is missing."""
    write_case(tmp_path / "raw", 0, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    preprocess_cases(cases, folder, SETTINGS)
    begun = []
    module = "kitsjax.data.preprocess_cases"
    monkeypatch.setattr(f"{module}._find_stored", lambda *_: None)
    monkeypatch.setattr(f"{module}.preprocess_case", lambda *_: begun.append("image"))
    assert preprocess_cases(cases, folder, SETTINGS).kept == 1
    assert preprocess_cases(cases, folder, SETTINGS, annotations=True).made == 1
    monkeypatch.setattr(f"{module}.annotate_case", lambda *_: begun.append("annotations"))
    assert preprocess_cases(cases, folder, SETTINGS, annotations=True).kept == 1
    assert begun == []


def test_processes_take_cases_in_other_orders(tmp_path, monkeypatch):
    """In the same order, two processes would do the same work."""
    for number in range(12):
        write_case(tmp_path / "raw", number, shape=(6, 12, 12))
    cases, orders = find_cases(tmp_path / "raw"), []

    def record(function, items, *_, **__):
        orders.append([case.case_id for case in items])
        return iter(())

    monkeypatch.setattr("kitsjax.data.preprocess_cases.map_cases", record)
    for _ in range(3):
        preprocess_cases(cases, tmp_path / "out", SETTINGS)
    assert {tuple(sorted(order)) for order in orders} == {tuple(c.case_id for c in cases)}
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.usefixtures("in_process")
def test_files_written_meanwhile_are_no_case(tmp_path, monkeypatch):
    write_case(tmp_path / "raw", 0)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"

    def rewritten(volume, settings):
        os.utime(cases[0].label)
        return resample_hu(volume, settings)

    monkeypatch.setattr("kitsjax.data.preprocess_case.resample_hu", rewritten)
    ((_, message),) = preprocess_cases(cases, folder, SETTINGS).failures
    assert "case_00000: its files changed while they were read" in message
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_file_that_has_gone_is_its_cases_failure(tmp_path):
    for number in range(2):
        write_case(tmp_path / "raw", number)
    cases = find_cases(tmp_path / "raw")
    cases[0].label.unlink()
    report = preprocess_cases(cases, tmp_path / "out", SETTINGS)
    assert (report.made, report.kept, list(report.cases)) == (1, 0, ["case_00001"])
    ((case_id, message),) = report.failures
    assert case_id == "case_00000"
    assert message.startswith(f"{cases[0].label}: cannot find it")


@pytest.mark.usefixtures("in_process")
def test_case_without_annotations_fails_early(tmp_path):
    write_case(tmp_path / "raw", 0)
    write_case(tmp_path / "raw", 1, annotations=1)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    report = preprocess_cases(cases, folder, SETTINGS, annotations=True)
    assert report.made == 1
    ((case_id, message),) = report.failures
    assert case_id == "case_00000"
    assert message.startswith(f"{cases[0].folder}: has no individual annotations")
    assert "data.label_source=majority" in message
    assert [p.name[:10] for p in folder.iterdir()] == ["case_00001"]


@pytest.mark.usefixtures("in_process")
def test_annotations_without_a_class_fail(tmp_path):
    """Half a copy would teach tumors as kidney; the majority label is there all the same."""
    folder = write_case(tmp_path / "raw", 0, annotations=2)
    for path in folder.glob("segmentations/tumor_*"):
        path.unlink()
    cases, out = find_cases(tmp_path / "raw"), tmp_path / "out"
    ((case_id, message),) = preprocess_cases(cases, out, SETTINGS, annotations=True).failures
    assert case_id == "case_00000"
    words = "holds no tumor, though aggregated_MAJ_seg.nii.gz does; get its files again"
    assert message == f"{folder / 'segmentations'}: {words}"
    assert preprocess_cases(cases, out, SETTINGS).failures == []


def shrink(image, label):
    return image, label[:-1]


def spoil(image, label):
    image[0, 0, 0] = np.nan
    return image, label


def strange(image, label):
    label[0, 0, 0] = 9
    return image, label


def test_bad_cases_are_reported_others_go_on(tmp_path):
    """In two processes, as users run it."""
    words = {"case_00000": "9", "case_00001": "NaN", "case_00002": "9"}
    for number, edit in enumerate((shrink, spoil, strange, None)):
        write_case(tmp_path / "raw", number, edit=edit)
    report = preprocess_cases(find_cases(tmp_path / "raw"), tmp_path / "out", SETTINGS, 2)
    assert (report.made, report.kept) == (1, 0)
    assert 0.01 < report.peak_gib < 4
    assert [case_id for case_id, _ in report.failures] == list(words)
    for case_id, message in report.failures:
        assert case_id in message
        assert words[case_id] in message
        assert "\n" not in message
    assert [p.name[:10] for p in (tmp_path / "out").iterdir()] == ["case_00003"]


def fail_on_case_1(image, *_):
    if image.grid.name.endswith("case_00001/imaging.nii.gz"):
        raise KeyError("no such unit")
    return np.zeros((4, 4, 4), np.int16)


@pytest.mark.usefixtures("in_process")
def test_no_exception_takes_other_cases_along(tmp_path, monkeypatch):
    """The line names case and class, and says where the traceback is."""
    for number in range(3):
        write_case(tmp_path / "raw", number)
    monkeypatch.setattr("kitsjax.data.preprocess_case.resample_hu", fail_on_case_1)
    cases, out = find_cases(tmp_path / "raw"), tmp_path / "out"
    report = preprocess_cases(cases, out, SETTINGS)
    log = out / "errors.log"
    line = f"{cases[1].folder}: KeyError: 'no such unit'; the full traceback is in {log}"
    assert (report.made, report.failures) == (2, [("case_00001", line)])
    assert "in fail_on_case_1" in log.read_text()


@pytest.mark.usefixtures("in_process")
def test_the_cache_is_tested_if_cases_are_to_do(tmp_path, monkeypatch):
    """A complete cache need not be writable, as on a shared disk."""
    write_case(tmp_path / "raw", 0)
    cases, out = find_cases(tmp_path / "raw"), tmp_path / "out"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: is a file; .*with data.cache$"):
        preprocess_cases(cases, tmp_path / "file", SETTINGS)
    assert preprocess_cases(cases, out, SETTINGS).made == 1

    def refuse(folder, setting):
        raise InputError(f"{folder}: cannot write")

    monkeypatch.setattr("kitsjax.data.preprocess_cases.check_folder", refuse)
    assert preprocess_cases(cases, out, SETTINGS).kept == 1


SCRIPT = """
import sys
from pathlib import Path
from kitsjax.data.kits import find_cases
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.settings import PreprocessSettings
if __name__ == "__main__":
    raw, out = map(Path, sys.argv[1:])
    report = preprocess_cases(find_cases(raw), out, PreprocessSettings(spacing_mm=3.0), 1)
    print(report.made, report.kept, len(report.failures))
"""


def test_killed_run_leaves_whole_cases_only(tmp_path, request):
    first, *others = (tmp_path / "raw" / f"case_{number:05d}" for number in range(12))
    write_case(tmp_path / "raw", 0, shape=(40, 96, 96))
    for other in others:
        shutil.copytree(first, other)
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    job = subprocess.Popen(
        [sys.executable, script, tmp_path / "raw", out],
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while len(list(out.glob("case_*"))) < 2 and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    finished = sorted(p.name for p in out.glob("case_*"))
    assert 2 <= len(finished) <= 12
    for name in finished:
        assert len(list((out / name).iterdir())) == 7
    # It may have been killed at work on a case.
    (out / f".{host_name()}-{machine_id()}-{job.pid}-01234567.partial.case_00011").mkdir()
    request.getfixturevalue("in_process")
    report = preprocess_cases(find_cases(tmp_path / "raw"), out, SETTINGS)
    assert (report.kept, report.failures) == (len(finished), [])
    assert len(list(out.glob("case_*"))) == len(list(out.iterdir())) == 12


def test_two_runs_at_once_share_the_cases(tmp_path):
    for number in range(12):
        write_case(tmp_path / "raw", number)
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, script, tmp_path / "raw", out]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [[int(n) for n in job.communicate(timeout=120)[0].split()] for job in jobs]
    assert [made + kept for made, kept, _ in counts] == [12, 12]
    assert sum(made for made, _, _ in counts) == 12, "each case is made once"
    assert [failed for _, _, failed in counts] == [0, 0]
    assert len(list(out.iterdir())) == 12
