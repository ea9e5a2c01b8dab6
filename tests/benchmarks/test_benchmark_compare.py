"""The frame of the benchmark: rounds, ratios, peers that are missing, and the table."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from processes import is_running, wait_until

from benchmarks import benchmark as whole
from benchmarks import compare
from benchmarks.part import Job, Measurement, Part, PeakMemory, Side, time_calls
from benchmarks.table import to_json, to_table
from kitsjax.errors import InputError
from kitsjax.report.table_format import to_markdown

ROOT = Path(__file__).parents[2]


def nothing(job: Job) -> Measurement:
    raise AssertionError("sides run in processes of their own")


OURS, PEER, OTHER = (Side(name, nothing) for name in ("kitsjax", "peer", "other"))
ABSENT = Side("absent", nothing, needs=("no_such_module",))


@pytest.fixture
def measured(monkeypatch):
    """Gives out measurements of each side in turn, in place of child processes; its calls."""
    calls: list[str] = []
    seconds = {"0": [1.0, 2.0, 4.0], "1": [3.0, 10.0, 8.0], "2": [2.0, 2.0, 2.0]}

    def call(part, side, job, logs):
        calls.append(side)
        if side in ("check", "prepare"):
            return {"difference": 0.5}
        if not seconds[side]:
            raise InputError("part: exit status 1 (no room)")
        value = seconds[side].pop(0)
        return asdict(Measurement([value, value, 100.0], units=2, peak_bytes=3 * 2**20))

    monkeypatch.setattr(compare, "_call", call)
    call.seconds, call.calls = seconds, calls
    return call


def run(part: Part, folder: Path, rounds: int = 3) -> compare.Row:
    (row,) = compare.run_part(
        part, folder, folder / "logs", "small", "cpu", rounds, lambda text: None
    )
    return row


def test_sides_alternate_and_the_ratio_is_the_median_of_the_rounds(measured, tmp_path):
    part = Part("part", "work", (OURS, PEER, OTHER), goal={"cpu": 3.0})
    row = run(part, tmp_path)
    assert measured.calls == ["0", "1", "2"] * 3
    # 3 / 1, 10 / 2 and 8 / 4: not the ratio of the medians, which is 4.
    assert row.ratios("peer") == [3, 5, 2]
    assert row.ratio("peer") == 3
    assert row.seconds("kitsjax") == 1  # the median over rounds of a unit's seconds
    table = to_table([row], {"processor": "P"}, {"jax": "1"})
    first, second = table.rows
    assert first[2] == "peer"
    assert first[4:7] == ("3", "2 to 5", "3: reached")
    assert second[2] == "other"
    assert second[6] == ""  # the goal is set against the first peer
    assert "Measured on: processor P." in to_markdown(table)


def test_a_goal_just_missed_is_not_reached(measured, tmp_path):
    row = run(Part("part", "work", (OURS, PEER), goal={"cpu": 3.01}), tmp_path)
    assert to_table([row], {}, {}).rows[0][6] == "3.01: not reached"


def test_what_is_not_installed_or_fails_is_left_out_by_name(measured, tmp_path):
    measured.seconds["1"][1:] = []
    row = run(Part("part", "work", (OURS, PEER, ABSENT)), tmp_path)
    assert list(row.measurements) == ["kitsjax"]
    assert set(row.failures) == {"peer", "absent"}
    assert "no_such_module not installed" in row.failures["absent"]
    notes = to_table([row], {}, {}).notes
    assert any("peer left out: part: exit status 1 (no room)" in note for note in notes)


def test_kitsjax_itself_failing_is_an_error(measured, tmp_path):
    measured.seconds["0"][:] = []
    with pytest.raises(InputError, match="no room"):
        run(Part("part", "work", (OURS, PEER)), tmp_path)


def test_what_was_prepared_is_made_once_and_anew_where_it_is_not_whole(measured, tmp_path):
    measured.seconds["0"] = [1.0] * 9
    part, folder = Part("part", "work", (OURS,), prepare=lambda job: None), tmp_path / "part/small"

    def prepared() -> bool:
        measured.calls.clear()
        run(part, tmp_path, rounds=1)
        return "prepare" in measured.calls

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


def test_an_interrupt_ends_a_command_and_what_it_started(tmp_path):
    """The command starts another, says its number, and both wait; then we are ended."""
    inner = "import time; time.sleep(60)"
    outer = (
        "import subprocess, sys, time;"
        f"print(subprocess.Popen([sys.executable, '-c', {inner!r}]).pid, flush=True);"
        "time.sleep(60)"
    )
    log = tmp_path / "log"
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from benchmarks.process import run_alone\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"run_alone([sys.executable, '-c', {outer!r}], {{}}, Path({str(log)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        process.terminate()
        assert process.wait(30) == 143
    started = int(log.read_text())
    assert wait_until(lambda: not is_running(started))


def test_results_of_other_parts_are_not_replaced(tmp_path):
    found = tmp_path / "benchmark.json"
    for text, message in (
        ('{"rows": [{"part": "step"}]}', "has results of step that would be lost"),
        ("[]", "not a benchmark's"),
    ):
        found.write_text(text)
        refused = benchmark("--only", "resample", "--output", str(tmp_path))
        assert refused.returncode == 2
        assert message in refused.stderr.splitlines()[-1]
        assert found.read_text() == text


def test_growth_has_files_of_its_own(monkeypatch, tmp_path):
    text = '{"rows": [{"part": "step"}]}'
    (tmp_path / "benchmark.json").write_text(text)
    drawn = []
    monkeypatch.setattr(whole, "run_growth", lambda output, *_: drawn.append(output))
    assert whole.run_benchmark(tmp_path, ["growth"]) == ""
    assert drawn == [tmp_path]
    assert (tmp_path / "benchmark.json").read_text() == text


def test_json_holds_every_round_and_the_checks(measured, tmp_path):
    part = Part("part", "work", (OURS, PEER), check=lambda job: {}, prepare=lambda job: None)
    found = json.loads(json.dumps(to_json([run(part, tmp_path)], {"cores": "2"}, {})))
    assert measured.calls[0] == "prepare"
    (row,) = found["rows"]
    assert row["checks"] == {"difference": 0.5}
    assert len(row["measurements"]["peer"]) == 3
    assert row["ratios"] == {"peer": 3}


def test_numbers_are_never_powers_of_ten(measured, tmp_path):
    measured.seconds["0"], measured.seconds["1"] = [1.9996], [5000.0]
    row = run(Part("part", "work", (OURS, PEER)), tmp_path, rounds=1)
    ours, _, theirs, ratio, spread = to_table([row], {}, {}).rows[0][1:6]
    # A unit is half of a call.
    assert (ours, theirs, ratio, spread) == ("1 s", "2,500 s", "2,501", "2,501 to 2,501")


def test_calls_are_timed_after_warming_up():
    calls = []
    assert len(time_calls(lambda: calls.append(0), repeats=3, warm_up=2)) == 3
    assert len(calls) == 5


def test_peak_memory_sees_what_was_freed_again():
    code = (
        "from benchmarks.part import PeakMemory\n"
        "with PeakMemory() as peak:\n"
        "    data = bytearray(64 * 2**20); del data\n"
        "print(peak.bytes)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 60 * 2**20 < int(out.stdout) < 128 * 2**20
    assert PeakMemory().bytes == 0


def benchmark(*args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "bin" / "benchmark.py"), *args]
    return subprocess.run(command, capture_output=True, text=True)


def test_list_names_every_part_without_loading_what_they_measure():
    found = benchmark("--list")
    names = [line.split()[0] for line in found.stdout.splitlines()]
    assert names == [
        "resample", "preprocess", "batches", "step", "epoch", "predict", "score", "start", "growth",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--only", "resmaple", "--output", "x"), "--only resmaple: no such part"),
        (("--rounds", "0", "--output", "x"), "--rounds 0: take at least 1"),
        ((), "--output is needed"),
    ],
)
def test_wrong_options_are_refused_in_one_line(args, message, tmp_path):
    found = benchmark(*(str(tmp_path / a) if a == "x" else a for a in args))
    assert found.returncode == 2
    assert message in found.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
