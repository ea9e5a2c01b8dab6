"""The list of benchmarks."""

from benchmarks import batches, epoch, predict, preprocess, resample, score, start, step
from benchmarks.definition import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        resample.BENCHMARK, preprocess.BENCHMARK, batches.BENCHMARK, step.BENCHMARK,
        epoch.BENCHMARK, predict.BENCHMARK, score.BENCHMARK, start.BENCHMARK,
    )
}  # fmt: skip
"""The table has the benchmarks in this order. A new one is a module and an entry here."""
