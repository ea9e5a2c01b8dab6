"""Read an evaluation back from its folder, and refuse files that evaluate.py cannot have written.

A refusal is one line that names the file, the line or field, and its value.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from kitsjax.errors import InputError
from kitsjax.evaluate.check_results import (
    check_complete,
    check_lesion,
    check_mean,
    check_sample,
    check_samples,
    check_scored,
)
from kitsjax.evaluate.results import FORMAT, Evaluation, Failure, Lesion, Score
from kitsjax.evaluate.stored_scheme import scheme_from_json, scheme_to_json
from kitsjax.input_file import advise_reading
from kitsjax.labels import KITS
from kitsjax.settings import Layout

_Record = TypeVar("_Record", Score, Lesion)

_KITS_FORMAT = 2
"""The format of files without a label scheme, which are of KiTS's labels."""

_OLD_NAMES = {"lesions": "tumors"}
"""What files of that format call a field of `Score`."""


class _Versioned(BaseModel):
    """The one field of evaluation.json that every format has."""

    model_config = ConfigDict(strict=True)
    format: PositiveInt


class _FailedCase(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    case_id: str
    message: str


class _About(_Versioned):
    """Content of evaluation.json."""

    labels: dict[str, Any]
    predictions: str
    dataset: str
    missing: list[str]
    failures: list[_FailedCase]
    versions: dict[str, str]
    notes: list[str] = []
    layout: Layout = "auto"


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read and check what `write_results.write_evaluation` wrote.

    Raises:
        InputError: The folder is missing, one of its files is missing or was not written by
            evaluate.py, or the files have a format that this version does not read.
    """
    folder = Path(folder)
    path = folder / "evaluation.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no evaluation.json; give the folder that evaluate.py wrote"
        )
    about = _read_about(path)
    with _name_file(path):
        scheme = scheme_from_json(about.labels)
    rename = _OLD_NAMES if about.format == _KITS_FORMAT else {}
    scores, samples = (
        _read_table(folder / name, Score, 3, partial(check, scheme=scheme), rename)
        for name, check in (("scores.csv", check_mean), ("samples.csv", check_sample))
    )
    lesions = _read_table(
        folder / "lesions.csv", Lesion, 4, partial(check_lesion, scheme=scheme), {}
    )
    with _name_file(folder / "scores.csv"):
        check_complete(scores, scheme)
    with _name_file(folder / "samples.csv"):
        check_samples(scores, samples)
    with _name_file(folder / "lesions.csv"):
        check_scored(lesions, scores)
    failures = tuple(Failure(case.case_id, case.message) for case in about.failures)
    return Evaluation(
        scores, samples, lesions, failures, tuple(about.missing),
        about.predictions, about.dataset, about.versions, scheme, tuple(about.notes),
        about.layout,
    )  # fmt: skip


@contextmanager
def _name_file(path: Path) -> Iterator[None]:
    """Turn an error about a file's content into one line that names the file."""
    try:
        yield
        return
    except InputError:
        raise
    except OSError as error:
        advice = advise_reading(error, "run bin/evaluate.py again")
        raise InputError(f"{path}: cannot read ({error.strerror}); {advice}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"not as evaluate.py wrote it (line {line} is no UTF-8 text)"
    except ValidationError as error:
        what = f"not as evaluate.py wrote it ({_explain(error)})"
    except (ValueError, RecursionError, csv.Error) as error:
        what = f"not as evaluate.py wrote it ({error})"
    raise InputError(f"{path}: {what}; run bin/evaluate.py again")


def _explain(error: ValidationError) -> str:
    """Describe the first problem of a validation by its field and value."""
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"no {name}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{name} is {_show(problem['input'])}" if name else "line 1: no object in braces"


def _show(value: object) -> str:
    """Quote a value, cut to a length that fits into a message."""
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:50]}..."


def _read_about(path: Path) -> _About:
    with _name_file(path):
        content = json.loads(path.read_bytes().decode())
        # Another format may have other fields, so its number is checked before them.
        number = _Versioned.model_validate(content).format
        if number == _KITS_FORMAT:
            content["labels"] = scheme_to_json(KITS)
        elif number != FORMAT:
            age, remedy = ("newer", "update kitsjax")
            if number < FORMAT:
                age, remedy = ("older", "run bin/evaluate.py again")
            raise InputError(
                f"{path}: has format {number}, {age} than format {FORMAT} of this version; {remedy}"
            )
        return _About.model_validate(content)


def _read_table(
    path: Path,
    kind: type[_Record],
    keys: int,
    check: Callable[[_Record], dict[str, bool]],
    rename: Mapping[str, str],
) -> tuple[_Record, ...]:
    """Read the rows of a table.

    Args:
        path: The CSV file.
        kind: Type of a row.
        keys: The first so many fields differ between any two rows.
        check: Tells for each field of a row whether its value is possible.
        rename: What the head calls some fields.
    """
    lines: dict[tuple[object, ...], int] = {}
    rows = []
    with _name_file(path):
        reader = csv.reader(StringIO(path.read_bytes().decode(), newline=""))
        _check_head(next(reader, []), [rename.get(name, name) for name in kind._fields])
        for cells in reader:
            number = reader.line_num
            row = _parse_row(kind, cells, number)
            for name, is_possible in check(row).items():
                if not is_possible:
                    raise ValueError(f"line {number}: {name} is {_show(getattr(row, name))}")
            first = lines.setdefault(row[:keys], number)
            if first != number:
                raise ValueError(f"line {number}: the same {kind.__name__.lower()} as line {first}")
            rows.append(row)
    return tuple(rows)


def _check_head(head: list[str], names: list[str]) -> None:
    for place, (found, name) in enumerate(zip_longest(head, names), 1):
        if found != name:
            raise ValueError(f"line 1: column {place} is {_show(found or '')}, not {name}")


def _parse_row(kind: type[_Record], cells: list[str], number: int) -> _Record:
    if len(cells) != len(kind._fields):
        raise ValueError(f"line {number}: {len(cells)} cells, not {len(kind._fields)}")
    values = []
    for (name, convert), cell in zip(kind.__annotations__.items(), cells, strict=True):
        try:
            values.append(convert(cell))
        except ValueError:
            raise ValueError(f"line {number}: {name} is {_show(cell)}") from None
    return kind(*values)
