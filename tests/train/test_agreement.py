"""Two hosts compare what they see before they work; a difference is one line on each."""

import pytest
from two_hosts import finish, join

from kitsjax.config import load_settings
from kitsjax.run_record import RunRecord, write_record
from kitsjax.train.agreement import agree_on_folder, agree_on_settings

SETTINGS = """
def work(index, hosts, *_):
    from kitsjax.config import load_settings
    from kitsjax.train.agreement import agree_on_settings
    agree_on_settings(load_settings(overrides=[OVERRIDES[index]]))
"""

FOLDER = """
def work(index, hosts, *_):
    from pathlib import Path
    from kitsjax.run_lock import lock_folder
    from kitsjax.train import agreement
    agreement.STALE_SECONDS = 1
    folder = Path(FOLDERS[index])
    if index:
        agreement.agree_on_folder(folder)
    else:
        with lock_folder(folder):
            agreement.agree_on_folder(folder)
"""


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


def test_one_folder_is_agreed_on(tmp_path):
    with join(FOLDER.replace("FOLDERS", str([f"{tmp_path}/run", f"{tmp_path}/./run"]))) as started:
        assert finish(started)[::2] == ([0, 0], [[], []])


def test_another_folder_is_refused(tmp_path):
    """Each host has a disk of its own, with the same name on both in a real run."""
    folders = [f"{tmp_path}/{name}" for name in ("first", "second")]
    with join(FOLDER.replace("FOLDERS", str(folders))) as started:
        statuses, _, (first, second) = finish(started)
    text = f"{folders[1]}: is not the run folder that host 0 writes to"
    assert statuses == [2, 2]
    assert [len(first), len(second)] == [1, 1]
    assert second[0].startswith(f"-c: {text}")
    assert text in first[0]


def test_a_stale_view_is_refused(tmp_path):
    """The lock is seen, but the record is an older one; here a link makes two folders one."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, versions in ((first, {"jax": "1"}), (second, {"jax": "0"})):
        write_record(
            folder, RunRecord(settings="", versions=versions, train=["case_00000"], held_out=[])
        )
    (second / "lock.json").symlink_to(first / "lock.json")
    with join(FOLDER.replace("FOLDERS", str([str(first), str(second)]))) as started:
        statuses, _, lines = finish(started)
    assert statuses == [2, 2]
    for own in lines:
        assert len(own) == 1
        assert "the hosts differ in the hash of run.json" in own[0]
