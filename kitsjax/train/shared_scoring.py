"""The scoring of a run's held-out cases, which the hosts share."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from kitsjax.data.case import Case
from kitsjax.data.open_dataset import AUTO
from kitsjax.evaluate.evaluation import BOTH, evaluate
from kitsjax.evaluate.results import Evaluation, Failure, Lesion, Score
from kitsjax.evaluate.stored_scheme import scheme_from_json
from kitsjax.hosts import exchange, host_count, host_index
from kitsjax.labels import LabelScheme
from kitsjax.processes import take_shard

_Row = TypeVar("_Row", Score, Lesion)


def evaluate_together(
    held_out: Sequence[Case],
    folder: Path,
    workers: int,
    scheme: LabelScheme,
    unpredicted: Sequence[Failure] = (),
    notes: Sequence[str] = (),
    layout: str = AUTO,
) -> Evaluation:
    """Score `predictions/` of a run folder, each case on one host; see `evaluation.evaluate`.

    Args:
        held_out: the cases to score.
        unpredicted: those of them whose prediction failed, and why; they are not scored.
        folder: the run folder, which also gets the log of errors.
        workers: number of processes on each host; 0: one a core.
        scheme: the label scheme.
        notes: what a reader should know of the scores.
        layout: that of the data set, for figures that read it again.

    Returns:
        The scores of all cases, the same on every host.
    """
    lost = {failure.case_id for failure in unpredicted}
    predicted = [case for case in held_out if case.case_id not in lost]
    if not predicted:
        return Evaluation(
            failures=tuple(sorted(unpredicted)), scheme=scheme, notes=tuple(notes), layout=layout
        )
    share = take_shard(predicted, (host_index(), host_count()))
    others = {case.case_id for case in held_out} - {case.case_id for case in share}
    # Each case is scored against all truths that it has, whatever the other cases have.
    own = evaluate(
        share, folder / "predictions", BOTH, workers, others=others, log_folder=folder,
        scheme=scheme,
    )  # fmt: skip
    failures = tuple(sorted({*own.failures, *unpredicted}))
    own = replace(own, failures=failures, notes=tuple(notes), layout=layout)
    if host_count() == 1:
        return own
    texts = exchange("scoring", json.dumps(asdict(own)))
    return merge_evaluations([parse_evaluation(text) for text in texts])


def merge_evaluations(parts: Sequence[Evaluation]) -> Evaluation:
    """Merge the evaluations of shares of the cases.

    The first one's data set, predictions, versions, label scheme and notes stand for all.
    """
    return replace(
        parts[0],
        scores=_merge_rows(part.scores for part in parts),
        samples=_merge_rows(part.samples for part in parts),
        lesions=_merge_rows(part.lesions for part in parts),
        # A prediction without a case fails on every host.
        failures=tuple(sorted({row for part in parts for row in part.failures})),
        missing=tuple(sorted(case_id for part in parts for case_id in part.missing)),
    )


def _merge_rows(parts: Iterable[tuple[_Row, ...]]) -> tuple[_Row, ...]:
    """Merge rows in the order of the case ids; those of a case keep their order."""
    return tuple(sorted(chain.from_iterable(parts), key=lambda row: row.case_id))


def parse_evaluation(text: str) -> Evaluation:
    """Parse `json.dumps(asdict(evaluation))`."""
    content = json.loads(text)
    return Evaluation(
        scores=tuple(Score(*row) for row in content.pop("scores")),
        samples=tuple(Score(*row) for row in content.pop("samples")),
        lesions=tuple(Lesion(*row) for row in content.pop("lesions")),
        failures=tuple(Failure(*row) for row in content.pop("failures")),
        missing=tuple(content.pop("missing")),
        scheme=scheme_from_json(content.pop("scheme")),
        notes=tuple(content.pop("notes")),
        **content,
    )
