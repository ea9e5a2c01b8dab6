"""Commands that start again so that glibc gets their large arrays in huge pages."""

import json
import os
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("system", "libc"),
    [
        ("[always] madvise never", "glibc 2.36"),
        ("always madvise [never]", "glibc 2.36"),
        (None, "glibc 2.36"),
        ("always [madvise] never", "glibc 2.34"),
        ("always [madvise] never", None),
        ("always [madvise] never", "musl"),
    ],
)
def test_elsewhere_nothing_is_started(monkeypatch, tmp_path, system, libc):
    """Where asking changes nothing, the command goes on; no `execv` is to be met here."""
    enabled = tmp_path / "enabled"
    if system is not None:
        enabled.write_text(system + "\n")
    monkeypatch.setattr(huge_pages, "_SYSTEM", enabled)
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started again"))
    monkeypatch.delenv(VARIABLE, raising=False)
    use_huge_pages()
    assert VARIABLE not in os.environ


def test_a_command_that_cannot_start_again_goes_on(monkeypatch, given_if_asked, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    monkeypatch.setenv(VARIABLE, "")
    use_huge_pages()
    assert os.environ[VARIABLE] == SETTING


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
import jax, numpy as np
x = jax.block_until_ready(jax.jit(lambda x: x + 1)(np.zeros(2**26, np.uint8)))
lines = [line.split() for line in open("/proc/self/smaps")]
print(sum(int(line[1]) for line in lines if line[0] == "AnonHugePages:") >> 10)
"""
    for setting, expected in ((SETTING, True), ("glibc.malloc.hugetlb=0", False)):
        variables = os.environ | {VARIABLE: setting, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=variables, capture_output=True, text=True
        )
        # NumPy asks for its own array in either case, but does not touch it.
        assert (int(done.stdout) >= 60) == expected, done.stdout + done.stderr
