import subprocess
import sys
from pathlib import Path

from benchmarks.measure import PeakMemory, time_calls

ROOT = Path(__file__).parents[2]


def test_calls_are_timed_after_warming_up():
    calls = []
    assert len(time_calls(lambda: calls.append(0), repeats=3, warm_up=2)) == 3
    assert len(calls) == 5


def test_peak_memory_sees_what_was_freed_again():
    code = (
        "from benchmarks.measure import PeakMemory\n"
        "with PeakMemory() as peak:\n"
        "    data = bytearray(64 * 2**20); del data\n"
        "print(peak.bytes)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert 60 * 2**20 < int(out.stdout) < 128 * 2**20
    assert PeakMemory().bytes == 0
