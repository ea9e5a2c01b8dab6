"""Hosts that wait for each other, compare what they see, and end together."""

import os
import signal
import sys

import pytest
from two_hosts import JOIN, finish, free_address, join, start_processes

from kitsjax import host_watch
from kitsjax.errors import InputError
from kitsjax.hosts import agree, exchange
from kitsjax.signals import Stopped

READY_TO_JOIN = """
import jax
connect = jax.distributed.initialize
def initialize(*args, **kwargs):
    print("ready", flush=True)
    connect(*args, **kwargs)
jax.distributed.initialize = initialize
"""

READY = "hosts.barrier('starting'); print('ready', flush=True)"


def test_a_single_host_agrees_with_itself():
    assert exchange("working", "value") == ["value"]
    agree("comparing", {"a": 1}, "mend it")


def test_hosts_exchange_in_order():
    """Everyone gets everyone's values, more than once under one name."""
    work = """
def work(index, hosts, *_):
    for turn in range(2):
        time.sleep(0.5 * index)
        print(hosts.exchange("working", f"{turn} of {index}" + 5_000_000 * " ")[::-1][0].strip())
    hosts.agree("comparing", {"a": [1, "b"], "c": None}, "mend it")
"""
    with join(work) as started:
        assert finish(started) == ([0, 0], 2 * ["0 of 1\n1 of 1\n"], [[], []])


def test_a_difference_is_told_on_each_host():
    work = """
def work(index, hosts, *_):
    hosts.agree("comparing", {"same": 1, "train.seed": index}, "give both the same")
"""
    with join(work) as started:
        statuses, _, lines = finish(started)
    text = "-c: the hosts differ in train.seed: 0 on host 0, 1 on host 1; give both the same"
    assert (statuses, lines) == ([2, 2], 2 * [[text]])


def test_another_wait_is_told_on_each_host():
    """Hosts with different commands would wait for each other in vain."""
    work = """
def work(index, hosts, *_):
    hosts.barrier("b" if index else "a")
"""
    with join(work) as started:
        statuses, _, lines = finish(started)
    assert statuses == [2, 2], lines
    for own in lines:
        assert len(own) == 1
        assert "the hosts differ in what they wait for: " in own[0]
        assert "'a' on host 0" in own[0]
        assert "'b' on host 1" in own[0]


def test_a_long_wait_is_told():
    """The line names what is waited for; the wait goes on, and may end in time or not."""
    work = """
def work(index, hosts, host_watch, watch):
    hosts.NOTED_SECONDS = 1
    if index:
        time.sleep(4)
    hosts.barrier("scoring")
    if index:
        time.sleep(1000)
    hosts.barrier("reporting", 2)
"""
    with join(work) as started:
        statuses, _, (first, second) = finish(started)
    assert statuses == [75, 75]
    assert first[:2] == [
        "waiting for 1 of 2 hosts: scoring",
        "waiting for 1 of 2 hosts: reporting",
    ]
    text = "waiting for 1 of 2 hosts: reporting; gave up after 2 s; start all hosts again"
    assert first[2:] == [f"-c: {text}"]
    assert len(second) == 1
    assert second[0].endswith(f"): {text}")


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_ends_all_hosts(failing):
    """The others say where, in one line, though they were at work or waiting."""
    work = f"""
def work(index, hosts, *_):
    if index == {failing}:
        raise InputError("scan.nii.gz: damaged; restore it")
    time.sleep(1000) if index else hosts.barrier("preprocessing")
"""
    with join(work, 3 if failing else 2) as started:
        statuses, _, lines = finish(started)
    assert statuses == len(started) * [2]
    for index, own in enumerate(lines):
        assert len(own) == 1
        if index == failing:
            assert own == ["-c: scan.nii.gz: damaged; restore it"]
        else:
            assert own[0].startswith(f"-c: host {failing} (")
            assert own[0].endswith("): scan.nii.gz: damaged; restore it")


def test_an_unforeseen_error_ends_all_hosts():
    """Only the host that failed shows a traceback."""
    work = """
def work(index, hosts, *_):
    hosts.barrier("starting")
    if index:
        raise KeyError("missing")
    hosts.barrier("working")
"""
    with join(work) as started:
        statuses, _, (first, second) = finish(started)
    assert statuses == [2, 1]
    assert len(first) == 1
    assert first[0].endswith("): KeyError: 'missing'")
    assert second[0].startswith("Traceback")


def test_the_watch_ends_before_the_connection():
    """A call of a client that JAX shuts down meanwhile would crash the process."""
    work = """
def work(index, hosts, host_watch, watch):
    import threading
    import jax
    shut_down = jax.distributed.shutdown
    def look_and_shut_down():
        print(sum(thread.name == host_watch.WATCH for thread in threading.enumerate()), flush=True)
        shut_down()
    jax.distributed.shutdown = look_and_shut_down
    # The watch looks all the time, and is nearly always within a call.
    host_watch._BEAT_SECONDS = 0.0
    time.sleep(1.5)
    raise InputError("the first case: no image; mend it")
"""
    with join(work) as started:
        statuses, printed, _ = finish(started)
    assert (statuses, printed) == ([2, 2], ["0\n", "0\n"])


def test_a_host_that_hangs_is_ended():
    """A program that waits for another host lets no handler of a signal run."""
    work = """
def work(index, hosts, host_watch, watch):
    host_watch.GRACE_SECONDS = 1
    if index:
        raise InputError("disk full")
    watch.tidy = lambda: print("tidied", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    time.sleep(1000)
"""
    with join(work) as started:
        statuses, printed, (first, _) = finish(started)
    assert statuses == [2, 2]
    assert printed[0] == "tidied\n"
    assert len(first) == 1
    assert first[0].endswith("): disk full")


@pytest.mark.parametrize("failing", [0, 1])
def test_a_host_in_a_barrier_is_ended(failing):
    """JAX's barrier fails once this host has left the others; only one thread ends the process."""
    work = f"""
def work(index, hosts, host_watch, watch):
    host_watch.GRACE_SECONDS = 1
    if index == {failing}:
        raise InputError("disk full")
    hosts.coordination_client().wait_at_barrier("restoring", 600_000)
"""
    with join(work) as started:
        statuses, _, lines = finish(started)
    assert statuses == [2, 2], lines
    assert len(lines[1 - failing]) == 1, lines
    assert lines[1 - failing][0].endswith("): disk full")


@pytest.mark.parametrize("failing", [0, 1])
def test_a_signal_as_the_work_ends(failing):
    """It comes before the host has told the others of its end: they are told nonetheless."""
    work = f"""
def work(index, hosts, host_watch, watch):
    if index == {failing}:
        ignore = host_watch.ignore_signals
        def stop():
            host_watch.ignore_signals = ignore
            os.kill(os.getpid(), signal.SIGTERM)
        host_watch.ignore_signals = stop
        raise InputError("disk full")
    hosts.barrier("restoring")
"""
    with join(work) as started:
        statuses, _, lines = finish(started)
    assert statuses == [2, 2], lines
    assert lines[failing] == ["-c: disk full"]
    assert len(lines[1 - failing]) == 1, lines
    assert lines[1 - failing][0].endswith("): disk full")


class LeavingOnce:
    """A watch whose first `leave` raises."""

    def __init__(self, raises):
        self.raises, self.told = raises, []

    def start(self):
        pass

    def leave(self, error):
        self.told.append(error)
        if len(self.told) == 1:
            raise self.raises
        return error


@pytest.mark.parametrize(
    ("raises", "error", "found"),
    [
        (KeyboardInterrupt(), InputError("disk full"), InputError),
        (Stopped(signal.SIGTERM), None, Stopped),
        (RuntimeError("no store"), InputError("disk full"), RuntimeError),
    ],
)
def test_nothing_is_lost_as_a_host_leaves(monkeypatch, raises, error, found):
    watch = LeavingOnce(raises)
    monkeypatch.setattr(host_watch, "HostWatch", lambda: watch)
    monkeypatch.setattr(host_watch, "host_count", lambda: 2)

    def work(_):
        if error is not None:
            raise error

    with pytest.raises(found) as raised:
        host_watch.end_together(work)
    if found is RuntimeError:
        assert raised.value.__context__ is error
    else:
        assert watch.told == [error, error or raises]


def wait_until_ready(hosts):
    for process in hosts:
        assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("stopped", [(0,), (1,), (0, 1)])
def test_a_signal_stops_all_hosts(stopped):
    work = f"""
def work(index, hosts, *_):
    {READY}
    time.sleep(1000)
"""
    with join(work) as started:
        wait_until_ready(started)
        for index in stopped:
            started[index].send_signal(signal.SIGTERM)
        statuses, _, lines = finish(started)
    assert (statuses, lines) == ([143, 143], 2 * [["SIGTERM: stopped"]])


@pytest.mark.parametrize("raises", [False, True])
def test_each_stopped_host_tells_what_it_saved(raises):
    """Also the one that ends later: as it tidies up, a signal for the other's end comes to it."""
    work = f"""
import contextlib
from kitsjax.signals import Stopped, watch_signals
def work(index, hosts, *_):
    hosts.barrier("starting")
    with watch_signals() if index and not {raises} else contextlib.nullcontext():
        try:
            raise Stopped(signal.SIGTERM, f"host {{index}} saved at step 3")
        finally:
            if index:
                time.sleep(4)
"""
    with join(work) as started:
        statuses, _, lines = finish(started)
    assert statuses == [143, 143], lines
    assert lines == [[f"SIGTERM: host {index} saved at step 3"] for index in (0, 1)]


def test_a_late_signal_stops_all_hosts():
    """A host that was done before waits for the others, and ends as they do."""
    work = """
def work(index, hosts, *_):
    if index:
        while not hosts.coordination_client().key_value_dir_get("kitsjax/ended/"):
            time.sleep(0.1)
        print("ready", flush=True)
        time.sleep(1000)
"""
    with join(work) as started:
        wait_until_ready(started[1:])
        started[1].send_signal(signal.SIGTERM)
        statuses, _, lines = finish(started)
    assert (statuses, lines) == ([143, 143], 2 * [["SIGTERM: stopped"]])


def test_a_host_that_tidies_up_is_left_alone():
    """What another host's end asks for is not the second signal, which would end it at once."""
    work = """
def work(index, hosts, *_):
    hosts.barrier("starting")
    try:
        # The signal may come before this returns.
        print("ready", flush=True)
        time.sleep(1000)
    finally:
        if index:
            print("ready", flush=True)
            time.sleep(4)
            print("tidied", flush=True)
"""
    with join(work) as started:
        wait_until_ready(started)
        started[1].send_signal(signal.SIGTERM)
        wait_until_ready(started[1:])
        started[0].send_signal(signal.SIGTERM)
        statuses, printed, lines = finish(started)
    assert (statuses, lines) == ([143, 143], 2 * [["SIGTERM: stopped"]])
    assert printed[1] == "tidied\n"


@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_ends_the_wait_for_others(index):
    """JAX waits for minutes until all processes of a run have come, and looks at no signal."""
    code = JOIN.replace("WORK", READY_TO_JOIN)
    command = [sys.executable, "-c", code, free_address(), str(index), "2"]
    with start_processes([command]) as started:
        wait_until_ready(started)
        started[0].send_signal(signal.SIGTERM)
        statuses, _, lines = finish(started)
    assert statuses == [143]
    assert lines[0][-1] == "SIGTERM: stopped while joining the run's other processes"


def test_a_killed_host_is_noticed():
    work = f"""
def work(index, hosts, host_watch, watch):
    host_watch.LOST_SECONDS = 5
    {READY}
    time.sleep(1000)
"""
    with join(work) as started:
        wait_until_ready(started)
        started[1].kill()
        statuses, _, (first, _) = finish(started)
    assert statuses == [75, -signal.SIGKILL]
    (line,) = first
    assert line.startswith("host 1 (")
    assert "gave no sign of life for 5 s, so it has died; start all hosts again" in line


def test_the_first_host_is_missed():
    """JAX aborts the others, after lines of its own; the last one is ours, and the status."""
    work = f"""
def work(index, hosts, *_):
    {READY}
    time.sleep(1000)
"""
    with join(work) as started:
        wait_until_ready(started)
        os.kill(started[0].pid, signal.SIGKILL)
        statuses, _, (_, second) = finish(started)
    assert statuses == [-signal.SIGKILL, 75]
    assert second[-1].startswith("host 0, which all hosts need, has died; start all hosts again")
