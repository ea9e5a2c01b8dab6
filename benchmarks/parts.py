"""All parts of the benchmark, by name, in the order of the table."""

from benchmarks import batches, epoch, predict, preprocess, resample, score, start, step
from benchmarks.part import Part

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        resample.PART, preprocess.PART, batches.PART, step.PART, epoch.PART, predict.PART,
        score.PART, start.PART,
    )
}  # fmt: skip
"""What `--only` names. A new part is a module with a `PART`, and its name here."""
