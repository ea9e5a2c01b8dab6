"""Signals in processes of their own: exit statuses, lines, and what is left on the disk."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from processes import wait_until

from kitsjax.signals import (
    Stopped,
    end_at_once_on_signals,
    ignore_signals,
    stop_on_signals,
    watch_signals,
)

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}

WRITE = """
import sys, time
from kitsjax.command import run_command
from kitsjax.files import atomic_write
def main():
    with atomic_write(sys.argv[1]) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(60)
sys.exit(run_command(main))
"""

END = """
import atexit, sys, time
def unload():
    print("ready", flush=True)
    time.sleep(3)
# Registered before, so called after what the command registers.
atexit.register(unload)
from kitsjax.command import run_command
sys.exit(run_command(lambda: 2))
"""

POOL = """
import sys, time
from pathlib import Path
from kitsjax.command import run_command
from kitsjax.process_pool import map_cases
def work(path):
    Path(path).write_text("begun")
    time.sleep(60)
def main():
    print("ready", flush=True)
    list(map_cases(work, [sys.argv[1] + "/a", sys.argv[1] + "/b"], 2, "work"))
if __name__ == "__main__":
    sys.exit(run_command(main))
"""

COMPILE = """
import hashlib, sys
from pathlib import Path
from kitsjax.command import run_command
from kitsjax.signals import end_at_once_on_signals
def main():
    with end_at_once_on_signals("stopped while compiling", Path(sys.argv[1]).unlink):
        print("ready", flush=True)
        # As a compiler does, this leaves Python for minutes and looks at no signal.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
sys.exit(run_command(main))
"""


JAX_COMPILE = """
import os, signal, threading
import jax, jax.numpy as jnp
from kitsjax.command import exit_with, run_command
def many_operations(x):
    for i in range(250):
        x = jnp.sin(x @ x) + jnp.cumsum(jnp.sort(x, 0), 1) * jnp.float32(i)
    return x
def main():
    print("ready", flush=True)
    lowered = jax.jit(many_operations).lower(jnp.ones((64, 64)))
    jax.config.update("jax_enable_compilation_cache", False)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    lowered.compile()
    return 0
exit_with(run_command(main))
"""


@contextmanager
def start(*command):
    """Start Python; whatever a test finds, the process does not outlive it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *map(str, command)], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def heeded_interrupt():
    """Let Ctrl-C interrupt, here and in what is started, where the tests' own shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_leaves_nothing_half_written(tmp_path, number):
    with start("-c", WRITE, tmp_path / "file.txt") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == STATUS[number]
    assert printed == f"{number.name}: stopped\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_ends_the_workers(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(POOL)
    with start(script, tmp_path) as process:
        assert wait_until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        process.send_signal(number)
        # The pipes end with the last process that holds them.
        _, printed = process.communicate(timeout=30)
    assert process.returncode == STATUS[number]
    assert f"{number.name}: stopped" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("number", STATUS)
def test_a_command_that_is_done_keeps_its_status(number):
    with start("-c", END) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, printed = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "")


@pytest.mark.parametrize("number", STATUS)
def test_a_compiler_does_not_hold_up_the_end(tmp_path, number):
    lock = tmp_path / "lock"
    lock.touch()
    with start("-c", COMPILE, lock) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, printed = process.communicate(timeout=30)
    assert (process.returncode, printed) == (
        STATUS[number],
        f"{number.name}: stopped while compiling\n",
    )
    assert not lock.exists()


def test_a_stop_in_a_compilation_has_its_status():
    """JAX crashes in Python's clean-up after an exception has left its compiler."""
    with start("-c", JAX_COMPILE) as process:
        assert process.stdout.readline() == "ready\n"
        _, printed = process.communicate(timeout=120)
    assert (process.returncode, printed) == (143, "SIGTERM: stopped\n")


def test_another_thread_sets_no_handlers():
    def work():
        with stop_on_signals(), watch_signals(), end_at_once_on_signals():
            pass
        return True

    with ThreadPoolExecutor() as pool:
        assert pool.submit(work).result()


def test_a_signal_as_a_compilation_ends(monkeypatch):
    """The thread that would end the process does not see it any more."""
    set_wakeup_fd = signal.set_wakeup_fd

    def stop_after_the_last(number, **options):
        before = set_wakeup_fd(number, **options)
        if not options:
            os.kill(os.getpid(), signal.SIGTERM)
        return before

    monkeypatch.setattr(signal, "set_wakeup_fd", stop_after_the_last)
    with pytest.raises(Stopped), stop_on_signals(), end_at_once_on_signals():
        pass


def test_stopped_is_a_keyboard_interrupt():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped, stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(stopped.value, Stopped)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_keeps_what_was_saved():
    def stop_twice():
        try:
            raise Stopped(signal.SIGTERM, "saved at step 3")
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped) as stopped, stop_on_signals():
        stop_twice()
    assert (stopped.value.number, stopped.value.text) == (signal.SIGINT, "")
    assert stopped.value.find_text() == "saved at step 3"
    assert Stopped(signal.SIGTERM).find_text() == ""


def test_watched_signals_are_only_noted():
    with stop_on_signals(), watch_signals() as seen:
        os.kill(os.getpid(), signal.SIGINT)
        assert seen == [signal.SIGINT]
        # The second one acts as it did before.
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_ends_ignores_signals():
    """Leaving the handlers that stood before would let a signal change its status."""
    before = {number: signal.getsignal(number) for number in STATUS}
    try:
        with stop_on_signals(), watch_signals():
            ignore_signals()
        assert all(signal.getsignal(number) == signal.SIG_IGN for number in STATUS)
    finally:
        for number, found in before.items():
            signal.signal(number, found)


def test_an_ignored_signal_stays_ignored():
    """A script's background job ignores Ctrl-C, which is meant for the job in front."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals(), watch_signals() as seen:
            os.kill(os.getpid(), signal.SIGINT)
        assert seen == []
    finally:
        signal.signal(signal.SIGINT, before)
