"""The number of cores: the quota of a container counts, in both versions of control groups."""

import pytest

from kitsjax.cores import cores, quota

NONE = 2**31


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000\n", 2), ("50000 100000\n", 0.5), ("max 100000\n", NONE), ("", NONE)],
)
def test_quota_of_version_2(tmp_path, limit, expected):
    write(tmp_path, cpu__max=limit)
    assert quota("0::/\n", tmp_path) == expected


def test_the_least_quota_upward_counts(tmp_path):
    write(tmp_path / "job" / "step", cpu__max="max 100000\n")
    write(tmp_path / "job", cpu__max="400000 100000\n")
    write(tmp_path, cpu__max="800000 100000\n")
    assert quota("0::/job/step\n", tmp_path) == 4
    assert quota("0::/elsewhere\n", tmp_path) == 8, "a path of the host, in a container"


@pytest.mark.parametrize(("limit", "expected"), [("300000\n", 3), ("-1\n", NONE)])
def test_quota_of_version_1(tmp_path, limit, expected):
    write(tmp_path / "cpu,cpuacct" / "job", cpu__cfs_quota_us=limit, cpu__cfs_period_us="100000\n")
    assert quota("4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n", tmp_path) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1), (1.9, 1), (10.0**6, 4)])
def test_quota_and_affinity_bound_the_cores(monkeypatch, share, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr("kitsjax.cores.quota", lambda own: share)
    assert cores() == expected
