import pytest

from benchmarks.run_once import run_once


def test_work_is_done_once(tmp_path):
    done = []

    def work():
        done.append(1)
        return {"seconds": 2.5}

    for _ in range(2):
        assert run_once(tmp_path / "a", "r.json", {"rate": 0.01}, work) == {"seconds": 2.5}
    assert len(done) == 1
    run_once(tmp_path / "a", "r.json", {"rate": 0.05}, work)
    assert len(done) == 2


def test_work_that_failed_leaves_no_result(tmp_path):
    folder = tmp_path / "work"

    def fail():
        (folder / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_once(folder, "result.json", {}, fail)
    assert run_once(folder, "result.json", {}, lambda: list(map(str, folder.iterdir()))) == []
    assert run_once(folder, "result.json", {}, fail) == []
