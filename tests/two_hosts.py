"""Several processes on this machine that JAX joins over loopback, as the hosts of a run."""

import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager

JOIN = """
import os, signal, sys, time
from kitsjax.command import exit_with, run_command
from kitsjax.errors import InputError, RetryError

def main():
    from kitsjax import host_watch, hosts
    from kitsjax.devices import start_devices
    from kitsjax.settings import RunSettings

    coordinator, index, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start_devices(RunSettings(
        compilation_cache="", coordinator=coordinator, processes=count, process=index,
    ))
    return host_watch.end_together(lambda watch: work(index, hosts, host_watch, watch)) or 0

WORK
exit_with(run_command(main))
"""


def free_address():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


@contextmanager
def start_processes(commands, environment=None):
    """Start a process a command; whatever a test finds, none outlives it."""
    with ExitStack() as stack:
        started = []
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen(
                    command, env=environment, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            started.append(process)
        yield started


def join(work, count=2):
    """Start hosts that join, and then call `work(index, hosts, host_watch, watch)`, as given."""
    code, address = JOIN.replace("WORK", work), free_address()
    return start_processes(
        [sys.executable, "-c", code, address, str(i), str(count)] for i in range(count)
    )


def finish(processes, seconds=300):
    """Wait for processes; return their statuses, what they printed, and their lines on stderr."""
    outputs = [process.communicate(timeout=seconds) for process in processes]
    printed, errors = zip(*(map(_leave_out_greetings, pair) for pair in outputs), strict=True)
    statuses = [process.returncode for process in processes]
    return statuses, list(printed), [text.splitlines() for text in errors]


def _leave_out_greetings(text):
    """Leave out the lines with which gloo greets its peers."""
    return "".join(line for line in text.splitlines(True) if not line.startswith("[Gloo]"))
