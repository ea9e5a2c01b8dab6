"""The number of cores that this process may use: its affinity, and the quota of its container."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups, in version 1 and in version 2."""

_OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """Return the number of cores that this process may use, at least 1.

    A container or a batch system limits it by a set of cores, or by a quota of their time. A quota
    of 2.5 cores counts as 2: a third worker would mostly wait.
    """
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, int(quota(_read(_OWN)))))


def quota(own: str, root: Path = CGROUPS) -> float:
    """Return the quota of this process's control groups, in cores; 2**31 without one.

    Args:
        own: the content of /proc/self/cgroup, a line "number:controllers:path" for each hierarchy,
            of which version 2 has one, without controllers.
        root: the folder of control groups.
    """
    found = [float(2**31)]
    for line in own.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            for folder in _upward(root, path):
                # "200000 100000": microseconds of cores' time in a period of so many; or "max".
                found += _divide(_read(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for name in ("cpu", "cpu,cpuacct"):
                for folder in _upward(root / name, path):
                    limits = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    found += _divide([_read(folder / limit).strip() for limit in limits])
    return min(found)


def _upward(root: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a group and of those that hold it; each may set a limit.

    In a container the path may be the host's, and only the root is there.
    """
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _divide(texts: list[str]) -> list[float]:
    """Divide a quota by its period; empty if there is none, such as "max" or -1."""
    if len(texts) == 2 and all(text.isdecimal() and int(text) for text in texts):
        return [int(texts[0]) / int(texts[1])]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
