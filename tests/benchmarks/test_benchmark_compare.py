import json
from dataclasses import asdict

import pytest

from benchmarks import compare
from benchmarks.definition import Benchmark, Contender, Job, Measurement
from kitsjax.errors import InputError


def nothing(job: Job) -> Measurement:
    raise AssertionError("contenders run in processes of their own")


OURS, BASELINE, OTHER = (Contender(name, nothing) for name in ("kitsjax", "baseline", "other"))
ABSENT = Contender("absent", nothing, needs=("no_such_module",))


@pytest.fixture
def worker(monkeypatch):
    """Return measurements of each contender in turn, in place of child processes."""
    calls: list[str] = []
    seconds = {"0": [1.0, 2.0, 4.0], "1": [3.0, 10.0, 8.0], "2": [2.0, 2.0, 2.0]}

    def call(benchmark, task, job, logs, own=None):
        calls.append(task)
        if task in ("check", "prepare"):
            return {"difference": 0.5}
        if not seconds[task]:
            raise InputError("name: exit status 1 (no room)")
        value = seconds[task].pop(0)
        return asdict(Measurement([value, value, 100.0], units=2, peak_bytes=3 * 2**20))

    monkeypatch.setattr(compare, "_call", call)
    call.seconds, call.calls = seconds, calls
    return call


def run(benchmark, folder, rounds=3):
    options = compare.Options(folder, folder / "logs", "small", "cpu", rounds)
    (row,) = compare.run_benchmark(benchmark, options)
    return row


def test_contenders_take_turns(worker, tmp_path):
    row = run(Benchmark("name", "work", (OURS, BASELINE, OTHER), goal={"cpu": 3.0}), tmp_path)
    assert worker.calls == ["0", "1", "2"] * 3
    assert row.ratios("baseline") == [3, 5, 2]
    assert row.goal == 3
    assert row.baselines == ["baseline", "other"]


def test_a_contender_skips_other_variants(worker, tmp_path):
    only_b = Contender("only b", nothing, variants=("b",))
    benchmark = Benchmark("name", "work", (OURS, only_b), variants=("a", "b"))
    options = compare.Options(tmp_path, tmp_path / "logs", "small", "cpu", 1)
    a, b = compare.run_benchmark(benchmark, options)
    assert (a.baselines, b.baselines) == ([], ["only b"])
    assert worker.calls == ["0", "0", "1"]


def test_failing_baselines_are_left_out(worker, tmp_path, capsys):
    worker.seconds["1"][1:] = []
    row = run(Benchmark("name", "work", (OURS, BASELINE, ABSENT)), tmp_path)
    assert list(row.measurements) == ["kitsjax"]
    assert row.failures == {
        "baseline": "name: exit status 1 (no room)",
        "absent": "no_such_module not installed; the extra [bench] has it",
    }
    assert "name: baseline left out: name: exit status 1 (no room)" in capsys.readouterr().out


def test_kitsjax_itself_failing_is_an_error(worker, tmp_path):
    worker.seconds["0"][:] = []
    with pytest.raises(InputError, match="no room"):
        run(Benchmark("name", "work", (OURS, BASELINE)), tmp_path)


def test_inputs_are_checked_after_the_rounds(worker, tmp_path):
    benchmark = Benchmark(
        "name", "work", (OURS, BASELINE), check=lambda job: {}, prepare=lambda job: None
    )
    assert run(benchmark, tmp_path).checks == {"difference": 0.5}
    assert (worker.calls[0], worker.calls[-1]) == ("prepare", "check")


def test_inputs_are_made_once_unless_outdated(worker, tmp_path):
    worker.seconds["0"] = [1.0] * 9
    benchmark = Benchmark("name", "work", (OURS,), prepare=lambda job: None)
    folder = tmp_path / "name/small"

    def prepared() -> bool:
        worker.calls.clear()
        run(benchmark, tmp_path, rounds=1)
        return "prepare" in worker.calls

    assert prepared()
    (folder / "data").touch()
    assert not prepared()
    stamp = json.loads((folder / "prepared.json").read_text())
    for other in (None, {**stamp, "packages": {}}):  # interrupted, and of other versions
        (folder / "prepared.json").write_text(json.dumps(other))
        assert prepared()
        assert not (folder / "data").exists()
    (folder / "prepared.json").unlink()
    (folder / "mine").touch()
    with pytest.raises(InputError, match="not made by the benchmark"):
        prepared()
    assert (folder / "mine").exists()


def test_a_contender_has_its_own_variables(monkeypatch, tmp_path):
    """The other contenders, what prepares and what checks do not have them."""
    given = {}

    def run_module(title, module, arguments, variables, log):
        given[arguments[1]] = dict(variables)
        return asdict(Measurement([1.0])) if arguments[1].isdecimal() else {}

    monkeypatch.setattr(compare, "run_module", run_module)
    tuned = Contender("tuned", nothing, variables={"MALLOC_ARENA_MAX": "1"})
    prepare = check = nothing
    run(Benchmark("name", "work", (OURS, tuned), prepare=prepare, check=check), tmp_path, 1)
    assert set(given) == {"prepare", "0", "1", "check"}
    assert [task for task, found in given.items() if "MALLOC_ARENA_MAX" in found] == ["1"]
    assert given["1"].items() > given["0"].items()
