import json

import pytest

from benchmarks import worker
from benchmarks.definition import Benchmark, Contender, Measurement


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a task of a small benchmark here, and returns its result."""

    def prepare(job):
        (job.folder / "input").write_text(job.size)

    def contend(job):
        return Measurement(
            [float(job.threads)], values={"input": (job.folder / "input").read_text()}
        )

    benchmark = Benchmark(
        "tiny", "work", (Contender("kitsjax", contend),), prepare=prepare,
        check=lambda job: {"difference": 0.5},
    )  # fmt: skip
    cores = []
    monkeypatch.setitem(worker.BENCHMARKS, "tiny", benchmark)
    monkeypatch.setattr(worker, "_limit_cores", cores.append)
    job = {"folder": str(tmp_path), "size": "small", "variant": "", "threads": 3}

    def run_task(task):
        worker.main(str(tmp_path / "result"), "tiny", task, json.dumps(job))
        assert cores.pop() == 3
        return json.loads((tmp_path / "result").read_text())

    return run_task


def test_each_task_writes_its_result(run):
    assert run("prepare") is None
    assert Measurement(**run("0")) == Measurement([3.0], values={"input": "small"})
    assert run("check") == {"difference": 0.5}
