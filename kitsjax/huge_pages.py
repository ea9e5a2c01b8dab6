"""Memory in huge pages for a command, which glibc asks for only if told so before it starts.

XLA's CPU backend allocates every large array of a program anew. The system then maps it, page by
page of 4 KiB, which takes a sixth of a large train step; with pages of 2 MiB it takes next to
nothing (benchmarks/README.md).
"""

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
"""glibc reads its settings from this variable when a program starts, and never again."""

SETTING = "glibc.malloc.hugetlb=1"
"""Ask for huge pages wherever malloc gets memory of the system (glibc 2.35 and newer)."""

_STARTED_AGAIN = "KITSJAX_STARTED_AGAIN"
"""Variable with the number of the process that has started again.

VARIABLE alone would not do: a wrapper around Python may set or remove it.
"""

_SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")

_SIZE = 2 * 2**20
"""Of larger pages (512 MiB on some ARM machines) every process would take too much."""


def use_huge_pages() -> None:
    """Start this command again in huge pages, if it is all that this process does.

    Call it first in a command. In a notebook, a debugger or a test, which would be lost, nothing is
    done, nor where `start_again` does nothing.
    """
    alone = sys.orig_argv[-len(sys.argv) :] == sys.argv and threading.active_count() == 1
    if alone and sys.gettrace() is None:
        start_again()


def start_again() -> None:
    """Start this process's program again, with glibc told to ask for huge pages.

    The number of the process, its arguments, its environment and its open streams stay, and what is
    in memory is lost. Its child processes will ask for huge pages, too. Nothing is done where the
    user has chosen a value for `glibc.malloc.hugetlb`, where the system gives huge pages of 2 MiB
    unasked or never, where malloc is not a glibc's of 2.35 or newer, or where the start fails.
    """
    process, asked = str(os.getpid()), choose_variables(os.environ)
    if asked and sys.executable and os.environ.get(_STARTED_AGAIN) != process:
        variables = {**os.environ, **asked, _STARTED_AGAIN: process}
        with suppress(OSError):
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def choose_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that asks for huge pages, with the other settings that it has.

    It is empty where nothing is to be asked: see `start_again`.
    """
    given = environment.get(VARIABLE, "")
    if "glibc.malloc.hugetlb" in given or not (_gives_if_asked() and _knows_setting()):
        return {}
    return {VARIABLE: ":".join(filter(None, (given, SETTING)))}


def _gives_if_asked() -> bool:
    """Tell whether this system gives huge pages of 2 MiB to those that ask, and to no others."""
    try:
        size = int((_SYSTEM / "hpage_pmd_size").read_text())
        return size == _SIZE and "[madvise]" in (_SYSTEM / "enabled").read_text()
    except (OSError, ValueError):
        return False


def _knows_setting() -> bool:
    """Tell whether the C library is a glibc that knows the setting."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        major, minor = version.split(".")[:2]
        return name == "glibc" and (int(major), int(minor)) >= (2, 35)
    except (ValueError, AttributeError, OSError):
        # Other libraries do not know the name, and other systems do not know confstr.
        return False
