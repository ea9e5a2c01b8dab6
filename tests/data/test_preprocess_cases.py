"""Preprocessing a folder of cases: only what changed, failures apart, and killed runs."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from raw_cases import SETTINGS, made_at, write_case

from kitsjax.data.kits import find_cases
from kitsjax.data.preprocess_case import preprocess_case
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.data.stored_instances import INSTANCES_FOLDER, load_instances


@pytest.mark.usefixtures("in_process")
def test_only_what_changed_is_made_again(tmp_path):
    for number in range(3):
        write_case(tmp_path / "raw", number)
    cases = find_cases(tmp_path / "raw")
    folder = tmp_path / "out"
    assert preprocess_cases(cases, folder, SETTINGS).made == 3
    assert preprocess_cases(cases, folder, SETTINGS).kept == 3
    before = {c.case_id: (folder / c.case_id / "image.npy").stat().st_ino for c in cases}
    os.utime(cases[1].image)
    assert preprocess_cases(cases, folder, SETTINGS).made == 1
    after = {c.case_id: (folder / c.case_id / "image.npy").stat().st_ino for c in cases}
    assert [before[c] == after[c] for c in sorted(before)] == [True, False, True]


@pytest.mark.usefixtures("in_process")
def test_annotations_follow_their_files(tmp_path):
    for number in range(3):
        write_case(tmp_path / "raw", number, annotations=2)
    cases, folder = find_cases(tmp_path / "raw"), tmp_path / "out"
    for case in cases:
        preprocess_case(case, folder / case.case_id, SETTINGS)
    before = made_at(folder)
    report = preprocess_cases(cases, folder, SETTINGS, annotations=True)
    assert (report.made, report.failures) == (3, [])
    added = made_at(folder)
    assert {name: added[name] for name in before} == before
    assert {name.parent.name for name in set(added) - set(before)} == {"annotations"}
    assert preprocess_cases(cases, folder, SETTINGS, annotations=True).kept == 3
    assert preprocess_cases(cases, folder, SETTINGS).kept == 3
    (cases[1].annotations / "kidney_instance-1_annotation-2.nii.gz").unlink()
    assert preprocess_cases(cases, folder, SETTINGS).kept == 3
    assert preprocess_cases(cases, folder, SETTINGS, annotations=True).made == 1
    changed = {name for name, when in made_at(folder).items() if when != added[name]}
    assert {name.parent.as_posix() for name in changed} == {"case_00001/annotations"}
    (kidney,) = load_instances(folder / "case_00001" / INSTANCES_FOLDER)
    assert kidney.annotations == (1,)
    # A case whose image changed loses its old annotations with all the rest.
    os.utime(cases[2].image)
    assert preprocess_cases(cases, folder, SETTINGS).made == 1
    assert not (folder / "case_00002" / "annotations").exists()


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
    assert [p.name for p in folder.iterdir()] == ["case_00001"]


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
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["case_00003"]


SCRIPT = """
import sys
from pathlib import Path
from kitsjax.data.kits import find_cases
from kitsjax.data.preprocess_cases import preprocess_cases
from kitsjax.settings import PreprocessSettings
if __name__ == "__main__":
    raw, out = map(Path, sys.argv[1:])
    preprocess_cases(find_cases(raw), out, PreprocessSettings(spacing_mm=3.0), 1)
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
        assert len(list((out / name).iterdir())) == 6
    request.getfixturevalue("in_process")
    report = preprocess_cases(find_cases(tmp_path / "raw"), out, SETTINGS)
    assert (report.kept, report.failures) == (len(finished), [])
    assert len(list(out.glob("case_*"))) == 12
