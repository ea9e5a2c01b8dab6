"""Cases in worker processes: what comes back, what a failure stops, and what a bar says."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from processes import is_running, wait_until

from kitsjax.errors import InputError, UnforeseenError
from kitsjax.files import atomic_write
from kitsjax.process_pool import map_cases


def square(item):
    return item, item**2, os.getpid()


def fail_on_two(item):
    if item == 2:
        raise InputError("two.nii: bad; give another")
    return item


def full_on_two(item):
    if item == 2:
        raise OSError(28, "No space left on device")
    return item


def make_lambda_of_two(item):
    return (lambda: None) if item == 2 else item


def die_on_three(folder, item):
    (folder / f"{item}-{os.getpid()}").touch()
    if item >= 3:
        # Those after it are not all done when it dies.
        time.sleep(0.2)
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def note_twice(item):
    for word in ("first", "second"):
        logging.getLogger("kitsjax.image").warning("%s: %s note", f"{item}.nii", word)


def swallow_signal(item):
    with suppress(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    return os.getpid()


def write_slowly(folder, item):
    if not (folder / str(item)).exists():
        with atomic_write(folder / str(item)) as temporary:
            temporary.touch()
            time.sleep(60)


def late_zero(item):
    time.sleep(1.0 if item == 0 else 0.0)
    return item


def die(item):
    os._exit(1)


@pytest.mark.parametrize(
    ("workers", "items", "isolated", "apart"),
    [(1, 3, False, False), (2, 1, False, False), (2, 5, False, True), (1, 2, True, True)],
)
def test_every_item_comes_once_with_its_result(workers, items, isolated, apart):
    results = list(map_cases(square, range(items), workers, "square", False, isolated))
    assert sorted(item for item, _ in results) == list(range(items))
    for item, (given, result, process) in results:
        assert (given, result) == (item, item**2)
        assert (process != os.getpid()) == apart


def test_results_come_as_they_are_ready():
    items = [item for item, _ in map_cases(late_zero, range(3), 2, "wait", False)]
    assert sorted(items) == [0, 1, 2]
    assert items[-1] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_an_input_error_stays_with_its_item(workers):
    results = dict(map_cases(fail_on_two, range(4), workers, "fail", False))
    assert isinstance(results[2], InputError)
    assert str(results.pop(2)) == "two.nii: bad; give another"
    assert results == {0: 0, 1: 1, 3: 3}


@pytest.mark.parametrize("workers", [1, 2])
def test_any_other_exception_stays_too(workers):
    """Its line has the class, and it carries the traceback."""
    results = dict(map_cases(full_on_two, range(4), workers, "fill", False))
    error = results.pop(2)
    assert isinstance(error, UnforeseenError)
    assert str(error) == "OSError: [Errno 28] No space left on device"
    assert "Traceback" in error.trace
    assert "full_on_two" in error.trace
    assert results == {0: 0, 1: 1, 3: 3}


def test_a_result_that_cannot_pickle_is_a_failure():
    results = dict(map_cases(make_lambda_of_two, range(3), 2, "pickle", False))
    assert isinstance(results.pop(2), UnforeseenError)
    assert results == {0: 0, 1: 1}


def test_a_killed_worker_fails_only_its_item(tmp_path):
    """Items that ran beside it are run again, those that finished are not."""
    work = partial(die_on_three, tmp_path)
    results = dict(map_cases(work, range(8), 2, "score", False))
    error = results.pop(3)
    assert str(error).startswith("its worker process was killed")
    assert "fewer workers" in str(error)
    assert results == {n: n for n in (0, 1, 2, 4, 5, 6, 7)}
    runs = Counter(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert runs["3"] == 2
    assert sum(runs.values()) <= 8 + 2


def test_every_item_may_kill_its_worker():
    results = dict(map_cases(die, range(3), 2, "score", False))
    assert sorted(results) == [0, 1, 2]
    assert all("was killed" in str(error) for error in results.values())


def test_workers_that_cannot_start_are_one_line(tmp_path):
    """As in a script that starts workers where its workers, too, come along."""
    script = tmp_path / "script.py"
    script.write_text(
        "from kitsjax.errors import InputError\n"
        "from kitsjax.process_pool import map_cases\n"
        "try:\n"
        "    list(map_cases(abs, [1, 2, 3], 2, 'work', False))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("worker processes cannot be started")
    assert "__main__" in done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_notes_of_workers_arrive_item_by_item(workers, caplog):
    results = map_cases(note_twice, range(4), workers, "note", False)
    order = [item for item, _ in results]
    expected = [f"{item}.nii: {word} note" for item in order for word in ("first", "second")]
    assert [record.getMessage() for record in caplog.records] == expected
    assert {record.name for record in caplog.records} == {"kitsjax.image"}


def test_an_ended_worker_begins_no_item():
    """The pool catches the exception of a signal that comes between two items."""
    results = map_cases(swallow_signal, range(2), 1, "end", False, isolated=True)
    assert len({process for _, process in results}) == 2


def test_ended_workers_remove_their_files(tmp_path):
    """Closing the iterator, as a signal does, ends the items that are running."""
    (tmp_path / "0").touch()
    results = map_cases(partial(write_slowly, tmp_path), range(3), 2, "write", False)
    assert next(results)[0] == 0
    assert wait_until(lambda: list(tmp_path.glob(".*.partial.*")))
    results.close()
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_no_items_start_nothing_and_show_nothing(capfd):
    assert list(map_cases(die, [], 0, "phantom", isolated=True)) == []
    assert capfd.readouterr().err == ""
    assert len(list(map_cases(square, [1], 1, "phantom"))) == 1
    assert "phantom: 100%" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, pathlib, sys, time\n"
        "from kitsjax.process_pool import map_cases\n"
        "def wait(path):\n"
        "    pathlib.Path(path).write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(map_cases(wait, sys.argv[1:], 2, 'wait', False))\n"
    )
    marks = [tmp_path / "one", tmp_path / "two"]
    parent = subprocess.Popen([sys.executable, script, *marks])
    try:
        assert wait_until(lambda: all(m.exists() and m.read_text() for m in marks))
    finally:
        parent.kill()
        parent.wait()
    workers = [int(mark.read_text()) for mark in marks]
    assert wait_until(lambda: not any(map(is_running, workers)))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal's process group")
@pytest.mark.parametrize(
    ("handler", "outcome"),
    [("default_int_handler", (1, "interrupted\n")), ("SIG_IGN", (0, ""))],
    ids=["heard", "ignored"],
)
def test_ctrl_c_ends_workers_silently(tmp_path, handler, outcome):
    """The parent tells the user of Ctrl-C; where it ignores the signal, the workers go on."""
    (tmp_path / "job.py").write_text(
        "import signal, sys, time, pathlib\n"
        "from kitsjax.process_pool import map_cases\n"
        "def wait(path):\n"
        "    pathlib.Path(path).touch()\n"
        f"    time.sleep({60 if outcome[0] else 2})\n"
        "if __name__ == '__main__':\n"
        f"    signal.signal(signal.SIGINT, signal.{handler})\n"
        "    try:\n"
        "        list(map_cases(wait, sys.argv[1:], 2, 'wait', progress=False))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit('interrupted')\n"
    )
    names = [tmp_path / name for name in ("a", "b", "c")]
    job = subprocess.Popen(
        [sys.executable, tmp_path / "job.py", *names], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: names[0].exists() and names[1].exists())
    os.killpg(job.pid, signal.SIGINT)
    _, said = job.communicate(timeout=30)
    assert (job.returncode, said) == outcome


def threads_of_worker(_: int) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    (_, first), (_, second) = map_cases(threads_of_worker, [1, 2], 2, "test", progress=False)
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert first == second == {"OMP_NUM_THREADS": share, "OPENBLAS_NUM_THREADS": share}
    # This process keeps what it had.
    assert threads_of_worker(0) == {"OMP_NUM_THREADS": "4096", "OPENBLAS_NUM_THREADS": None}


def test_workers_keep_a_smaller_number_of_threads(monkeypatch):
    monkeypatch.setattr("kitsjax.process_pool.cores", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = dict(map_cases(threads_of_worker, [1, 2], 2, "test", progress=False))
    assert found[1] == {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "32"}
