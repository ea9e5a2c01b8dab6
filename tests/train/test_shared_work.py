"""What two hosts share: each preprocesses and scores cases of its own; failures are told once."""

import json
import os
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from two_hosts import finish, join

from kitsjax.data.kits import find_cases
from kitsjax.evaluate.evaluation import evaluate
from kitsjax.image.header import kits_header
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY
from kitsjax.train import shared_scoring
from kitsjax.train.shared_scoring import evaluate_together, merge_evaluations, parse_evaluation

PREPARE = """
def work(index, hosts, *_):
    from kitsjax.config import load_settings
    from kitsjax.train import agreement, preparation
    agreement.STALE_SECONDS = 1
    SETUP
    data = preparation.prepare_together(load_settings(overrides=[
        f"data.root=FOLDER/{ROOTS[index]}", f"data.cache=FOLDER/{CACHES[index]}", "data.workers=1",
    ]))
    print(sorted(data.preprocessed), data.report.made)
"""


@pytest.fixture
def data(tmp_path):
    """Three cases with a box of kidney."""
    header = kits_header((8, 16, 16), (4.0, 2.0, 2.0))
    label = np.zeros((8, 16, 16), np.uint8)
    for number in range(3):
        label[2:5, 3:9, 3 : 8 + number] = 1
        folder = tmp_path / "data" / f"case_{number:05d}"
        write_volume(folder / "imaging.nii.gz", 100.0 * label.astype(np.float32), header)
        write_label(folder / "segmentation.nii.gz", label, header)
    return tmp_path


def prepare(folder, roots=("data", "data"), caches=("cache", "cache"), setup="pass"):
    code = PREPARE.replace("SETUP", setup).replace("FOLDER", str(folder))
    return join(code.replace("ROOTS", str(roots)).replace("CACHES", str(caches)))


def test_each_case_is_preprocessed_once(data):
    """One host is slow; the others wait for it, and the first one tells what all did."""
    slow = "hosts.NOTED_SECONDS = 1\n    if index: time.sleep(4)"
    with prepare(data, setup=slow) as started:
        statuses, (first, second), lines = finish(started)
    assert statuses == [0, 0], lines
    cases = ["case_00000", "case_00001", "case_00002"]
    assert second == f"{cases} 3\n"
    assert first.startswith("preprocessed: 3 cases made, 0 up to date")
    assert "more there" not in first
    assert first.endswith(second)
    assert len(list(data.glob("cache/*/case_*"))) == 3


def test_failures_of_all_hosts_are_told_once(data):
    for number in (1, 2):
        path = data / "data" / f"case_0000{number}" / "segmentation.nii.gz"
        path.write_bytes(path.read_bytes()[:-9])
    with prepare(data) as started:
        statuses, _, (first, second) = finish(started)
    assert statuses == [2, 2]
    failed = [line for line in first if line.startswith("failed: ")]
    assert ["case_00001" in failed[0], "case_00002" in failed[1], len(failed)] == [True, True, 2]
    assert "2 of 3 cases cannot be used, as listed above" in first[-1]
    assert [line for line in second if "failed: " in line] == []
    assert "2 of 3 cases cannot be used, as listed by host 0" in second[-1]


@pytest.mark.parametrize("needed", [False, True])
def test_annotations_are_compared_if_needed(data, needed):
    """Copies without their times would be looked for in vain in the cache of the other host."""
    for root, time in (("first", 1), ("second", 2)):
        for case in (data / "data").iterdir():
            shutil.copytree(case, data / root / case.name)
            path = data / root / case.name / "segmentations" / "kidney_instance-1_annotation-1.nii"
            path.parent.mkdir()
            shutil.copy(case / "segmentation.nii.gz", path)
            os.utime(path, (time, time))
    work = f"""
def work(index, hosts, *_):
    from kitsjax.data.open_dataset import open_dataset
    from kitsjax.train.agreement import agree_on_data
    agree_on_data(open_dataset("{data}/" + ["first", "second"][index]), {needed})
"""
    with join(work) as started:
        statuses, _, lines = finish(started)
    assert statuses == (2 * [2] if needed else 2 * [0]), lines
    assert all(
        "the hosts differ in the files of case_00000" in line for own in lines for line in own
    )


def test_hosts_with_other_data_are_told(data):
    (data / "data").rename(data / "first")
    folder = data / "second"
    folder.mkdir()
    for case in (data / "first").iterdir():
        (folder / case.name).mkdir()
        for path in case.iterdir():
            (folder / case.name / path.name).write_bytes(path.read_bytes())
    with prepare(data, roots=("first", "second")) as started:
        statuses, _, lines = finish(started)
    assert statuses == [2, 2]
    for own in lines:
        assert len(own) == 1
        assert "the hosts differ in the files of case_00000" in own[0]


def test_hosts_with_other_caches_are_told(data):
    with prepare(data, caches=("first", "second")) as started:
        statuses, _, lines = finish(started)
    assert statuses == [2, 2]
    assert all("put data.cache on a disk that all hosts share" in own[-1] for own in lines)


def test_scoring_is_shared(data):
    """Two hosts find what one finds; a prediction is damaged, and one has no case."""
    cases = find_cases(data / "data")
    for case in (*cases[:2], cases[0]):
        path = data / "run" / "predictions" / f"{case.case_id}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.label.read_bytes())
    (data / "run/predictions/other.nii.gz").write_bytes(cases[0].label.read_bytes())
    work = f"""
def work(index, hosts, *_):
    from pathlib import Path
    from dataclasses import asdict
    import json
    from kitsjax.data.kits import find_cases
    from kitsjax.labels import KITS
    from kitsjax.train.shared_scoring import evaluate_together
    found = evaluate_together(find_cases("{data}/data"), Path("{data}/run"), 1, KITS)
    print(json.dumps(asdict(found)))
"""
    with join(work) as started:
        statuses, printed, lines = finish(started)
    assert statuses == [0, 0], lines
    alone = evaluate(cases, data / "run" / "predictions", workers=1)
    first, second = (merge_evaluations([parse_evaluation(text)]) for text in printed)
    assert first == second
    assert repr(first) == repr(alone)
    assert len(alone.scores) > 3
    assert alone.missing == ("case_00002",)
    assert repr(evaluate_together(cases, data / "run", 1, KITS)) == repr(alone)
    assert json.loads(printed[0])["scores"] == json.loads(json.dumps(asdict(alone)))["scores"]


def test_a_case_is_scored_against_all_it_has(data, monkeypatch):
    """One of three cases has annotations; that fails no other case, whichever host scores it."""
    for case in find_cases(data / "data"):
        path = data / "run" / "predictions" / f"{case.case_id}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(case.label, path)
    folder = data / "data" / "case_00001"
    (folder / "segmentations").mkdir()
    for number in (1, 2, 3):
        name = f"segmentations/kidney_instance-1_annotation-{number}.nii.gz"
        shutil.copy(folder / "segmentation.nii.gz", folder / name)
    cases = find_cases(data / "data")
    found = evaluate_together(cases, data / "run", 1, KITS)
    assert (found.failures, found.missing) == ((), ())
    assert found.scored(MAJORITY) == {case.case_id for case in cases}
    assert found.scored(INDIVIDUAL) == {"case_00001"}
    parts = []
    monkeypatch.setattr(shared_scoring, "host_count", lambda: 2)
    monkeypatch.setattr(shared_scoring, "exchange", lambda _, text: [text])
    for host in range(2):
        monkeypatch.setattr(shared_scoring, "host_index", lambda host=host: host)
        parts.append(evaluate_together(cases, data / "run", 1, KITS))
    assert repr(merge_evaluations(parts)) == repr(found)
