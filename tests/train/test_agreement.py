"""Two hosts compare what they see before they work; a difference is one line on each."""

from dataclasses import replace

import pytest
from label_schemes import LIVER
from two_hosts import finish, join

from kitsjax.config import load_settings
from kitsjax.data.open_dataset import RawDataset
from kitsjax.run_record import RunRecord, write_record
from kitsjax.train import agreement
from kitsjax.train.agreement import agree_on_folder, agree_on_settings

SETTINGS = """
def work(index, hosts, *_):
    from kitsjax.config import load_settings
    from kitsjax.train.agreement import agree_on_settings
    agree_on_settings(load_settings(overrides=[OVERRIDES[index]]))
"""

FOLDER = """
def work(index, hosts, *_):
    import threading
    from pathlib import Path
    from kitsjax.run_lock import lock_folder
    from kitsjax.train import agreement
    agreement.STALE_SECONDS = 1
    folder = Path(FOLDERS[index])
    SETUP
    if index:
        agreement.agree_on_folder(folder)
    else:
        with lock_folder(folder):
            agreement.agree_on_folder(folder)
"""


PROGRESS = """
def work(index, hosts, *_):
    from kitsjax.train.agreement import agree_on_progress
    from kitsjax.train.checkpoint_record import Progress
    agree_on_progress(Progress(STEPS[index]), MODELS[index])
"""


def look_at(*folders, setup="pass"):
    """Start two hosts that agree on the run folder, each with a folder of its own."""
    code = FOLDER.replace("SETUP", setup)
    return join(code.replace("FOLDERS", str([str(folder) for folder in folders])))


def test_one_host_agrees_with_itself(tmp_path):
    agree_on_settings(load_settings())
    agree_on_folder(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("train.seed=0", "train.seed=3"), "the hosts differ in train.seed: 0 on host 0, 3 on"),
        (("data.workers=1", "data.workers=2"), ""),
        (("run.folder=a", "run.folder=b"), ""),
    ],
)
def test_settings_are_compared(overrides, words):
    """Some are a host's own: how many workers it has, and where its disk is mounted."""
    with join(SETTINGS.replace("OVERRIDES", str(overrides))) as started:
        statuses, _, lines = finish(started)
    assert statuses == (2 * [2] if words else 2 * [0])
    assert [len(own) for own in lines] == (2 * [1] if words else 2 * [0])
    assert all(words in line for own in lines for line in own)


def test_what_is_ignored_is_compared(tmp_path, monkeypatch):
    """Two hosts have the same labels, and only one of them a value to ignore."""
    compared = []
    monkeypatch.setattr(agreement, "agree", lambda name, facts, advice: compared.append(facts))
    for scheme in (LIVER, replace(LIVER, ignore=None), None):
        agreement.agree_on_data(RawDataset(tmp_path, "nnunet", [], scheme))
    first, *others = compared
    assert first == {
        "the number of cases": 0, "the labels": list(LIVER.names), "the value to ignore": 4,
    }  # fmt: skip
    assert [facts["the value to ignore"] for facts in others] == [None, None]


def test_one_folder_is_agreed_on(tmp_path):
    with look_at(f"{tmp_path}/run", f"{tmp_path}/./run") as started:
        assert finish(started)[::2] == ([0, 0], [[], []])


def test_another_folder_is_refused(tmp_path):
    """Each host has a disk of its own, with the same name on both in a real run."""
    folders = [f"{tmp_path}/{name}" for name in ("first", "second")]
    with look_at(*folders) as started:
        statuses, _, (first, second) = finish(started)
    text = f"{folders[1]}: is not the run folder that host 0 writes to"
    assert statuses == [2, 2]
    assert [len(first), len(second)] == [1, 1]
    assert second[0].startswith(f"-c: {text}")
    assert text in first[0]


@pytest.fixture
def stale(tmp_path):
    """Two folders: the second shows the lock of the first, by a link, and an older state."""
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "checkpoints" / "4").mkdir(parents=True)
    second.mkdir()
    (second / "lock.json").symlink_to(first / "lock.json")
    return first, second


def test_a_stale_view_is_waited_for(stale):
    appear = (
        "agreement.STALE_SECONDS = 60; "
        f"threading.Timer(2, os.makedirs, ['{stale[1]}/checkpoints/4']).start()"
    )
    with look_at(*stale, setup=f"if index: {appear}") as started:
        statuses, _, lines = finish(started)
    assert (statuses, lines) == ([0, 0], [[], []])


@pytest.mark.parametrize("name", ["checkpoints", "run.json"])
def test_a_view_that_stays_stale_ends_the_hosts(stale, name):
    """A scheduler starts them again."""
    first, second = stale
    if name == "run.json":
        (second / "checkpoints" / "4").mkdir(parents=True)
    for folder, case in ((first, "new"), (second, "old" if name == "run.json" else "new")):
        record = RunRecord(settings="", versions={}, train=[case], held_out=[])
        write_record(folder, record)
    with look_at(first, second) as started:
        statuses, _, lines = finish(started)
    assert statuses == [75, 75]
    for own in lines:
        assert len(own) == 1
        assert f"{second / name}: the disk shows another state than on host 0" in own[0]


@pytest.mark.parametrize(
    ("steps", "models", "status", "words"),
    [
        ((4, 4), ("a", "a"), 0, ""),
        ((4, 2), ("a", "a"), 75, "the step that they resume at: 4 on host 0, 2 on host 1; start"),
        ((4, 0), ("", "a"), 75, "the step that they resume at: 4 on host 0, 0 on host 1; start"),
        ((0, 0), ("a", "b"), 2, 'the checksum of the model train.init_from: "a" on host 0, "b" on'),
    ],
)
def test_progress_is_compared(steps, models, status, words):
    """Another step may come from a disk that is stale, another model is a mistake."""
    code = PROGRESS.replace("STEPS", str(steps)).replace("MODELS", str(models))
    with join(code) as started:
        statuses, _, lines = finish(started)
    assert statuses == 2 * [status]
    assert [len(own) for own in lines] == 2 * [int(bool(words))]
    assert all(words in line for own in lines for line in own)
