"""Memory in huge pages for a command, which glibc asks for only if told so before it starts.

XLA's CPU backend allocates every large array of a program anew. The system then maps it, page by
page of 4 KiB, which takes a fifth of a train step; with pages of 2 MiB it takes next to nothing
(benchmarks/README.md).
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
"""glibc reads its settings from this variable when a program starts, and never again."""

SETTING = "glibc.malloc.hugetlb=1"
"""Ask for huge pages wherever malloc gets memory of the system (glibc 2.35 and newer)."""

_SYSTEM = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_huge_pages() -> None:
    """Start this process's program again, with huge pages, where the system gives them if asked.

    Call it first in a command: the process, its arguments and its standard streams stay the same,
    and nothing else does. A value that the user gave for `glibc.malloc.hugetlb` is left alone. On
    machines that give huge pages unasked, or never, nothing is done.
    """
    given = os.environ.get(VARIABLE, "")
    if "glibc.malloc.hugetlb" in given or not (_gives_if_asked() and _knows_setting()):
        return
    os.environ[VARIABLE] = ":".join(filter(None, (given, SETTING)))
    # Where it cannot start again, the command goes on as it is. ValueError: Python has no path.
    with suppress(OSError, ValueError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _gives_if_asked() -> bool:
    """Tell whether this system gives huge pages to those that ask, and to no others."""
    try:
        return "[madvise]" in _SYSTEM.read_text()
    except OSError:
        return False


def _knows_setting() -> bool:
    """Tell whether the C library is a glibc that knows the setting."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        major, minor = version.split(".")[:2]
        return name == "glibc" and (int(major), int(minor)) >= (2, 35)
    except (ValueError, AttributeError):
        # Other systems have no such name, or not even confstr.
        return False
