"""Reads the files of an evaluation back, and refuses what evaluate cannot have written."""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from kitsjax.errors import InputError
from kitsjax.evaluate.lesions import OUTCOMES
from kitsjax.evaluate.results import FORMAT, Evaluation, Failure, Lesion, Score
from kitsjax.labels import CLASSES, CYST, EVALUATION_CLASSES, INDIVIDUAL, MAJORITY, TUMOR

SLACK = 1e-9
"""By which the rounding of a sum may bring a share above 1."""

_Record = TypeVar("_Record", Score, Lesion)


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read, and check, what `results.write_evaluation` wrote.

    Raises:
        InputError: no such folder, a file of it missing or not what was written, or a newer format.
    """
    folder = Path(folder)
    path = folder / "evaluation.json"
    if not path.is_file():
        raise InputError(f"{folder}: holds no evaluation.json; give the folder evaluate.py wrote")
    with _reading(path):
        about = _read_about(path)
    scores = _read_table(folder / "scores.csv", Score, 3, _check_mean)
    samples = _read_table(folder / "samples.csv", Score, 3, _check_sample)
    lesions = _read_table(folder / "lesions.csv", Lesion, 4, _check_lesion)
    with _reading(folder / "scores.csv"):
        _check_complete(scores)
    with _reading(folder / "samples.csv"):
        _check_samples(scores, samples)
    with _reading(folder / "lesions.csv"):
        _check_scored(lesions, scores)
    failures = tuple(Failure(**failure) for failure in about["failures"])
    return Evaluation(
        scores, samples, lesions, failures, tuple(about["missing"]),
        about["predictions"], about["dataset"], about["versions"],
    )  # fmt: skip


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in what is wrong with it: a ValueError says what, and where in the file."""
    try:
        yield
        return
    except InputError:
        raise
    except OSError as error:
        what = f"cannot read ({error.strerror})"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"not as evaluate wrote it (line {line} is no UTF-8 text)"
    except (ValueError, RecursionError, csv.Error) as error:
        what = f"not as evaluate wrote it ({error})"
    raise InputError(f"{path}: {what}; run bin/evaluate.py again")


def _read_about(path: Path) -> dict[str, Any]:
    about = json.loads(path.read_bytes().decode())
    if not isinstance(about, dict):
        raise ValueError("line 1: no object in braces")
    number = about.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise InputError(f"{path}: of format {number}, newer than {FORMAT}; update kitsjax")
    failures, versions = about.get("failures"), about.get("versions")
    good = {
        "format": type(number) is int and number > 0,
        "predictions": isinstance(about.get("predictions"), str),
        "dataset": isinstance(about.get("dataset"), str),
        "missing": _are_texts(about.get("missing")),
        "failures": isinstance(failures, list) and all(map(_is_failure, failures)),
        "versions": isinstance(versions, dict) and _are_texts(list(versions.values())),
    }
    for name, is_good in good.items():
        if not is_good:
            raise ValueError(f"{name} is {_show(about[name])}" if name in about else f"no {name}")
    return about


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_failure(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == set(Failure._fields)
        and _are_texts(list(value.values()))
    )


def _read_table(
    path: Path, kind: type[_Record], keys: int, check: Callable[[_Record], dict[str, bool]]
) -> tuple[_Record, ...]:
    """The rows of a table; each is `check`ed, and differs from all others in its first `keys`."""
    lines: dict[tuple[object, ...], int] = {}
    rows = []
    with _reading(path):
        reader = csv.reader(StringIO(path.read_bytes().decode(), newline=""))
        _check_head(next(reader, []), kind)
        for cells in reader:
            number = reader.line_num
            row = _parse(kind, cells, number)
            for name, is_good in check(row).items():
                if not is_good:
                    raise ValueError(f"line {number}: {name} is {_show(getattr(row, name))}")
            first = lines.setdefault(row[:keys], number)
            if first != number:
                raise ValueError(f"line {number}: the same {kind.__name__.lower()} as line {first}")
            rows.append(row)
    return tuple(rows)


def _check_head(head: list[str], kind: type[_Record]) -> None:
    for place, (found, name) in enumerate(zip_longest(head, kind._fields), 1):
        if found != name:
            raise ValueError(f"line 1: column {place} is {_show(found or '')}, not {name}")


def _parse(kind: type[_Record], cells: list[str], number: int) -> _Record:
    if len(cells) != len(kind._fields):
        raise ValueError(f"line {number}: {len(cells)} cells, not {len(kind._fields)}")
    values = []
    for (name, of), cell in zip(kind.__annotations__.items(), cells, strict=True):
        try:
            values.append(of(cell))
        except ValueError:
            raise ValueError(f"line {number}: {name} is {_show(cell)}") from None
    return kind(*values)


def _show(value: object) -> str:
    """A value in quotes, cut to what fits in a message."""
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:50]}..."


def _check_score(score: Score) -> dict[str, bool]:
    """Whether the value of each field is possible; so do the checks below."""
    return {
        "case_id": bool(score.case_id.strip()),
        "evaluation_class": score.evaluation_class in EVALUATION_CLASSES,
        "samples": score.samples > 0,
        "dice": _is_share(score.dice),
        "surface_dice": _is_share(score.surface_dice),
        "hausdorff95_mm": math.isnan(score.hausdorff95_mm) or _is_size(score.hausdorff95_mm),
        "prediction_cm3": _is_size(score.prediction_cm3),
        "truth_cm3": _is_size(score.truth_cm3),
        "tumors": score.tumors >= 0,
    }


def _check_mean(score: Score) -> dict[str, bool]:
    return {**_check_score(score), "against": score.against in (MAJORITY, INDIVIDUAL)}


def _check_sample(score: Score) -> dict[str, bool]:
    return {**_check_score(score), "against": score.against not in ("", MAJORITY, INDIVIDUAL)}


def _check_lesion(lesion: Lesion) -> dict[str, bool]:
    shares = {name: getattr(lesion, name) for name in ("covered", "excess", "misclassified")}
    is_false = lesion.outcome == "false positive"
    return {
        "case_id": bool(lesion.case_id.strip()),
        "source": lesion.source in ("truth", "prediction"),
        "label": lesion.label in (CLASSES[TUMOR], CLASSES[CYST]),
        "number": lesion.number > 0,
        "volume_cm3": _is_size(lesion.volume_cm3),
        "outcome": lesion.outcome in OUTCOMES and is_false == (lesion.source == "prediction"),
        **{name: math.isnan(share) or _is_share(share) for name, share in shares.items()},
        "slice": lesion.slice >= 0,
    }


def _is_share(value: float) -> bool:
    return 0 <= value <= 1 + SLACK


def _is_size(value: float) -> bool:
    return 0 <= value < math.inf


def _check_complete(scores: Iterable[Score]) -> None:
    """Refuse a case that lacks a class, or the majority where others have it.

    Only the individual score may be missing: of a case that is not annotated individually.
    """
    classes: dict[tuple[str, str], set[str]] = {}
    for score in scores:
        classes.setdefault((score.case_id, score.against), set()).add(score.evaluation_class)
    for (case_id, against), there in classes.items():
        for name in EVALUATION_CLASSES:
            if name not in there:
                raise ValueError(f"no row of {case_id}, {name}, {against}")
    cases = {
        kind: {case for case, against in classes if against == kind}
        for kind in (MAJORITY, INDIVIDUAL)
    }
    lacking = cases[INDIVIDUAL] - cases[MAJORITY]
    if cases[MAJORITY] and lacking:
        raise ValueError(f"no row of {min(lacking)}, {MAJORITY}, which other cases have")


def _check_samples(scores: Iterable[Score], samples: Iterable[Score]) -> None:
    """Refuse samples that are not those which the individual scores are the means of."""
    means = {
        (score.case_id, score.evaluation_class): score.samples
        for score in scores
        if score.against == INDIVIDUAL
    }
    found = Counter((sample.case_id, sample.evaluation_class) for sample in samples)
    for case_id, name in sorted(means.keys() | found.keys()):
        there, wanted = found[case_id, name], means.get((case_id, name), 0)
        if there != wanted:
            raise ValueError(
                f"{there} rows of {case_id}, {name}, while scores.csv has the mean of {wanted}"
            )


def _check_scored(lesions: Iterable[Lesion], scores: Iterable[Score]) -> None:
    strangers = {lesion.case_id for lesion in lesions} - {score.case_id for score in scores}
    if strangers:
        raise ValueError(f"rows of {_show(min(strangers))}, of which scores.csv has none")
