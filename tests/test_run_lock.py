"""The lock of a run folder: one owner at a time, stale ones taken over by exactly one."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from processes import wait_until

from kitsjax import run_lock
from kitsjax.errors import InputError, RetryError
from kitsjax.processes import host_name
from kitsjax.run_lock import LOCK_NAME, STALE_SECONDS, lock_folder

HOLDER = """
import signal, sys, time
from kitsjax.run_lock import lock_folder
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""

TAKER = """
import sys
from kitsjax.errors import InputError
from kitsjax.run_lock import lock_folder
print("ready", flush=True)
sys.stdin.readline()
try:
    with lock_folder(sys.argv[1]):
        print("held", flush=True)
        # Until all others have tried.
        sys.stdin.read()
except InputError:
    print("refused", flush=True)
"""


@contextmanager
def holder(folder):
    """A process that holds a folder, killed at the end at the latest."""
    command = [sys.executable, "-c", HOLDER, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        try:
            assert job.stdout.readline() == "held\n"
            yield job
        finally:
            job.kill()


def write_lock(folder, age=0.0, **changes):
    """Write another machine's lock, whose last heartbeat was `age` seconds ago."""
    record = {"host": "other", "machine": "00000000", "process": 7, "start": "1", "since": "then"}
    folder.mkdir(exist_ok=True)
    path = folder / LOCK_NAME
    path.write_text(json.dumps(record | changes))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_second_start_is_told_whose_it_is(tmp_path):
    with holder(tmp_path / "run") as job:
        with pytest.raises(InputError) as error, lock_folder(tmp_path / "run"):
            pass
        for words in (f"process {job.pid} on {host_name()}", "since 20", "wait until it ends"):
            assert words in str(error.value)
        assert "\n" not in str(error.value)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == 143
        assert list((tmp_path / "run").iterdir()) == [], "the lock goes with its run"


def test_lock_goes_with_its_block(tmp_path):
    with lock_folder(tmp_path):
        record = json.loads((tmp_path / LOCK_NAME).read_text())
        assert (record["host"], record["process"]) == (host_name(), os.getpid())
        with pytest.raises(InputError, match="has been writing there"), lock_folder(tmp_path):
            pass

    def fail():
        with lock_folder(tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_killed_run_leaves_a_stale_lock(tmp_path, caplog):
    with holder(tmp_path):
        pass
    before = (tmp_path / LOCK_NAME).read_text()
    with lock_folder(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() != before
    (note,) = caplog.messages
    assert "takes it over" in note
    assert not (tmp_path / LOCK_NAME).exists()


def test_later_process_with_the_number_is_another(tmp_path):
    """The number of a killed run's process may be in use again."""
    with lock_folder(tmp_path):
        own = json.loads((tmp_path / LOCK_NAME).read_text())
    write_lock(tmp_path, **own | {"start": own["start"] + "0"})
    with lock_folder(tmp_path):
        pass
    write_lock(tmp_path, **own)
    with pytest.raises(InputError), lock_folder(tmp_path):
        pass


def test_one_of_many_takes_a_stale_lock_over(tmp_path):
    with holder(tmp_path):
        pass
    command = [sys.executable, "-c", TAKER, tmp_path]
    with ExitStack() as stack:
        takers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(6)
        ]
        assert [taker.stdout.readline() for taker in takers] == ["ready\n"] * 6
        for taker in takers:
            taker.stdin.write("go\n")
            taker.stdin.flush()
        said = [taker.stdout.readline() for taker in takers]
        for taker in takers:
            taker.stdin.close()
        assert [taker.wait(timeout=60) for taker in takers] == [0] * 6
    assert sorted(said) == ["held\n", *["refused\n"] * 5]
    assert list(tmp_path.iterdir()) == []


def test_lock_taken_over_meanwhile_is_respected(tmp_path, monkeypatch):
    """Two find the same stale lock; one takes it over before the other does anything."""
    write_lock(tmp_path, 2 * STALE_SECONDS)
    with ExitStack() as stack:

        def overtaken(*_):
            monkeypatch.undo()
            stack.enter_context(lock_folder(tmp_path))

        monkeypatch.setattr(run_lock, "_require_stale", overtaken)
        with pytest.raises(InputError, match="has been writing there"), lock_folder(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    assert list(tmp_path.iterdir()) == []


def test_killed_taker_is_taken_over_too(tmp_path, monkeypatch):
    """A run is killed after it claimed a stale lock and before it replaced it."""
    write_lock(tmp_path, 2 * STALE_SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(run_lock, "atomic_write", lambda _: os.kill(0, 0) or 1 / 0)
        patch.setattr(run_lock, "_release", lambda *_: None)
        with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
            pass
    (claim,) = tmp_path.glob("lock-*.json")
    claim.write_text(claim.read_text().replace(str(os.getpid()), str(2**30)))
    with lock_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_heart_of_another_machine_decides(tmp_path, caplog):
    """Its processes cannot be asked, even where they have this one's number and host name."""
    own = {"host": host_name(), "process": os.getpid()}
    for changes in ({}, own, {"process": None}):
        write_lock(tmp_path, STALE_SECONDS / 2, **changes)
        # So a scheduler repeats it.
        until = pytest.raises(RetryError, match=r"start again in 3 minutes or remove lock\.json")
        with until, lock_folder(tmp_path):
            pass
        write_lock(tmp_path, STALE_SECONDS * 2, **changes)
        with lock_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_NAME).read_text())["process"] == os.getpid()
    assert len(caplog.messages) == 3


def test_damaged_lock_counts_by_its_age(tmp_path):
    path = write_lock(tmp_path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"lock\.json cannot be read"), lock_folder(tmp_path):
        pass
    os.utime(path, (1, 1))
    with lock_folder(tmp_path):
        pass


def test_heart_beats_until_the_block_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.01)
    path = tmp_path / LOCK_NAME
    with lock_folder(tmp_path):
        os.utime(path, (1, 1))
        assert wait_until(lambda: path.stat().st_mtime > 1)
    assert wait_until(lambda: not any("_beat" in t.name for t in threading.enumerate()))


def test_lock_of_another_is_left_alone(tmp_path, monkeypatch, caplog):
    """A machine that slept while its folder was taken over neither touches nor removes the lock."""
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.01)
    caplog.set_level(logging.WARNING)
    with lock_folder(tmp_path):
        path = write_lock(tmp_path, 50)
        assert wait_until(lambda: any("may write there" in text for text in caplog.messages))
        before = path.stat().st_mtime_ns
    assert path.stat().st_mtime_ns == before


def test_release_does_not_wait_for_a_disk(tmp_path, monkeypatch):
    """A process that ends because its disk does not answer ends."""
    answers = threading.Event()
    with lock_folder(tmp_path) as release:
        with monkeypatch.context() as patched:
            patched.setattr(run_lock, "RELEASE_SECONDS", 0.1)
            patched.setattr(run_lock, "_read", lambda _: answers.wait() and None)
            thread = threading.Thread(target=release, daemon=True)
            thread.start()
            thread.join(30)
            ended = not thread.is_alive()
            answers.set()
        assert ended
