"""Commands that start again so that glibc gets their large arrays in huge pages."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kitsjax import huge_pages
from kitsjax.huge_pages import SETTING, VARIABLE, use_huge_pages

ROOT = Path(__file__).parents[1]

SCRIPT = """
import json, os, sys
from kitsjax.huge_pages import VARIABLE, use_huge_pages
with open(sys.argv[1], "a") as starts:
    print(os.getpid(), file=starts)
use_huge_pages()
print(json.dumps([sys.argv[2:], sys.warnoptions, os.environ.get(VARIABLE), sys.stdin.read()]))
"""


@pytest.fixture
def given_if_asked():
    """Skip where the system gives huge pages unasked or never, or malloc is not a new glibc's."""
    if not (huge_pages._gives_if_asked() and huge_pages._knows_setting()):
        pytest.skip("huge pages are not given to those that ask here, or not by malloc")


def start(tmp_path, *arguments, tunables=""):
    """Run the script; return what it printed and the process numbers of its starts."""
    script, starts = tmp_path / "a script.py", tmp_path / "starts"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", script, starts, *arguments],
        env=os.environ | {VARIABLE: tunables, "PYTHONPATH": str(ROOT)},
        input="what is piped in", capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout), starts.read_text().split()


def test_a_command_starts_again_as_it_was(tmp_path, given_if_asked):
    """Same process, arguments, interpreter's options and input; the second start goes on."""
    found, starts = start(tmp_path, "--set", "a b", "")
    assert found == [["--set", "a b", ""], ["error"], SETTING, "what is piped in"]
    assert len(starts) == 2
    assert len(set(starts)) == 1


def test_other_settings_of_glibc_are_kept(tmp_path, given_if_asked):
    found, starts = start(tmp_path, tunables="glibc.malloc.tcache_count=7")
    assert found[2] == f"glibc.malloc.tcache_count=7:{SETTING}"
    assert len(starts) == 2


def test_the_users_choice_is_left_alone(tmp_path):
    found, starts = start(tmp_path, tunables="glibc.malloc.hugetlb=0")
    assert found[2] == "glibc.malloc.hugetlb=0"
    assert len(starts) == 1


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that describes a machine; starts are recorded and do not happen."""
    starts: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: starts.append(given))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "bin/train.py", "--resume"])
    monkeypatch.setattr(sys, "argv", ["bin/train.py", "--resume"])
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(huge_pages, "_SYSTEM", tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(huge_pages._STARTED_AGAIN, raising=False)

    def describe(system="always [madvise] never", libc="glibc 2.35", size=2 * 2**20):
        def confstr(name):
            if libc == "musl":
                raise OSError(22, "Invalid argument")
            return libc

        monkeypatch.setattr(os, "confstr", confstr)
        if system:
            (tmp_path / "enabled").write_text(system + "\n")
            (tmp_path / "hpage_pmd_size").write_text(f"{size}\n")
        return starts

    return describe


def test_the_program_that_is_started(machine, monkeypatch):
    """The same interpreter, options and arguments, with one setting more."""
    starts = machine()
    monkeypatch.setenv(VARIABLE, "glibc.malloc.tcache_count=7")
    before = dict(os.environ)
    use_huge_pages()
    ((path, arguments, variables),) = starts
    assert path == sys.executable
    assert arguments == [sys.executable, "-u", "bin/train.py", "--resume"]
    assert variables[VARIABLE] == f"glibc.malloc.tcache_count=7:{SETTING}"
    assert os.environ == before
    assert {*before.items()} - {*variables.items()} == {(VARIABLE, before[VARIABLE])}


@pytest.mark.parametrize(
    "found",
    [
        {"system": "[always] madvise never"},
        {"system": "always madvise [never]"},
        {"system": None},
        {"size": 512 * 2**20},
        {"libc": "glibc 2.34"},
        {"libc": None},
        {"libc": "musl"},
    ],
)
def test_elsewhere_nothing_is_started(machine, found):
    """Where asking changes nothing, or too much, the command goes on."""
    starts = machine(**found)
    use_huge_pages()
    assert starts == []


def test_nothing_is_started_for_ever(machine, monkeypatch):
    """A wrapper that removes the variable does not make the command start again and again."""
    starts = machine()
    use_huge_pages()
    (_, _, variables) = starts[0]
    monkeypatch.setenv("KITSJAX_STARTED_AGAIN", variables["KITSJAX_STARTED_AGAIN"])
    use_huge_pages()
    assert len(starts) == 1
    # A command that this one starts is another process.
    monkeypatch.setattr(os, "getpid", lambda: 1)
    use_huge_pages()
    assert len(starts) == 2


@pytest.mark.parametrize("host", ["notebook", "debugger", "threads"])
def test_what_else_runs_is_not_lost(machine, monkeypatch, host):
    """A command in a process that does more, as by `runpy` or a debugger, goes on in it."""
    starts = machine()
    if host == "notebook":
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ipykernel_launcher", "-f", "x"])
    if host == "debugger":
        monkeypatch.setattr(sys, "gettrace", lambda: print)
    if host == "threads":
        monkeypatch.setattr(threading, "active_count", lambda: 2)
    use_huge_pages()
    assert starts == []


def test_a_start_that_fails_changes_nothing(machine, monkeypatch, tmp_path):
    machine()

    def fail(*given):
        raise FileNotFoundError

    monkeypatch.setattr(os, "execve", fail)
    before = dict(os.environ)
    use_huge_pages()
    monkeypatch.setattr(sys, "executable", None)
    use_huge_pages()
    assert os.environ == before


@pytest.mark.parametrize("name", ["train.py", "predict.py"])
def test_commands_that_compute_ask(tmp_path, given_if_asked, name):
    """Count the starts by a module that Python imports at each."""
    counter = "with open({!r}, 'a') as starts: print(file=starts)"
    (tmp_path / "sitecustomize.py").write_text(counter.format(str(tmp_path / "starts")))
    variables = os.environ | {VARIABLE: "", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, ROOT / "bin" / name, "--help"]
    subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=True)
    assert len((tmp_path / "starts").read_text()) == 2


def test_arrays_of_jax_lie_in_huge_pages(given_if_asked):
    script = """
import mmap
import jax, numpy as np

def count():
    lines = [line.split() for line in open("/proc/self/smaps")]
    return sum(int(line[1]) for line in lines if line[0] == "AnonHugePages:") >> 10

# NumPy asks for its own array in any case, but does not touch it.
before = count()
x = jax.block_until_ready(jax.jit(lambda x: x + 1)(np.zeros(2**26, np.uint8)))
array = count() - before
control = mmap.mmap(-1, 2**26, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
control.madvise(mmap.MADV_HUGEPAGE)
control.write(bytes(2**26))
print(array, count() - before - array)
"""
    found = {}
    for setting in (SETTING, "glibc.malloc.hugetlb=0"):
        variables = os.environ | {VARIABLE: setting, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=variables, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        found[setting], control = map(int, done.stdout.split())
        if control < 50:
            pytest.skip("the system has no huge pages left")
    asked, unasked = found.values()
    assert asked >= unasked + 50
