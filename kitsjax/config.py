"""Read settings from TOML files and `--set` overrides; nothing else reads them."""

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from kitsjax.errors import InputError
from kitsjax.input_file import advise_reading
from kitsjax.labels import KITS, LabelScheme
from kitsjax.make_scheme import make_scheme
from kitsjax.settings import EvaluationSettings, Section, Settings


def load_settings(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Read settings from a TOML file and apply overrides.

    Args:
        path: TOML file; None: the defaults.
        overrides: texts such as "train.epochs=10". Values are TOML; a bare word is a string.

    Raises:
        InputError: The file cannot be read, a field is unknown or renamed (the message gives the
            right name), a value has a wrong type or is out of range, or intensities are given that
            training is to measure, or labels are named and other settings do not fit them.
    """
    settings = Settings() if path is None else parse_settings(_read_text(Path(path)), str(path))
    settings = override_settings(settings, overrides)
    if settings.preprocess.normalize == "foreground" and settings.preprocess.intensities:
        # Only a model's settings have both.
        raise InputError(
            'preprocess.intensities: with normalize = "foreground" training measures them; leave '
            'them out, or write normalize = "fixed"'
        )
    if settings.labels.names:
        # Without names the data set may have a scheme of its own, to which the rest belongs.
        choose_scheme(settings)
    return settings


def parse_settings(text: str, source: str) -> Settings:
    """Parse settings from TOML text.

    Args:
        text: TOML.
        source: name of the text in messages.

    Raises:
        InputError: The text is not TOML, or a field or value of it is not valid.
    """
    return _validate(_parse_toml(text, source), source)


def parse_stored_settings(text: str, source: str) -> Settings:
    """Parse settings that kitsjax itself stored, of this version or an older one.

    They are read in the meaning that they had then: old names are taken for the new ones, without
    `preprocess.hu_range` no HU are clipped, and without `preprocess.normalize` each case is
    normalized by its own numbers. Arguments and errors are those of
    `parse_settings`.
    """
    tree = _parse_toml(text, source)
    for old, new in RENAMED.items():
        section, field = old.split(".")
        values = tree.get(section)
        if isinstance(values, dict) and field in values:
            values[new.partition(".")[2]] = values.pop(field)
    preprocess = tree.setdefault("preprocess", {})
    if isinstance(preprocess, dict):
        preprocess.setdefault("hu_range", [])
        preprocess.setdefault("normalize", "case")
    return _validate(tree, source)


def override_settings(settings: Settings, overrides: Iterable[str]) -> Settings:
    """Apply overrides such as "train.epochs=10" to settings.

    Raises:
        InputError: An override is malformed, or its field or value is not valid.
    """
    tree = settings.model_dump()
    for override in overrides:
        _apply_override(tree, override)
    return _validate(tree, "--set")


def choose_scheme(settings: Settings, own: LabelScheme = KITS) -> LabelScheme:
    """Make the label scheme of a run, and check that the other settings fit it.

    Args:
        settings: all settings of the run; those of a model file are complete without `own`.
        own: the data set's own scheme, which holds where [labels] has no names.

    Raises:
        InputError: [labels], `sampling.class_weights` or `loss.regions` does not fit.
    """
    scheme = make_scheme(settings.labels, own)
    weights = settings.sampling.class_weights
    if weights and len(weights) != len(scheme.foreground):
        raise InputError(
            f"sampling.class_weights = {list(weights)}: give one for each of the labels "
            f"{', '.join(scheme.names[1:])}, or []"
        )
    if settings.loss.regions and not scheme.nested_labels:
        raise InputError(
            f"loss.regions = true: the evaluation classes {', '.join(scheme.evaluation_keys)} are "
            "no regions, which begin with the union of all labels and lose one label each; write "
            "such a chain in labels.evaluation, or loss.regions = false"
        )
    return scheme


def to_toml(settings: Settings) -> str:
    """Write settings as TOML, which `load_settings` reads back to the same settings."""
    return tomli_w.dumps(settings.model_dump(mode="json"))


def to_inline_toml(value: Any) -> str:
    """Write a value of a setting, as JSON has it, as TOML in one line, which `--set` reads back."""
    if isinstance(value, dict):
        pairs = (f"{to_inline_toml(key)} = {to_inline_toml(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_inline_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


RENAMED = {
    "network.heads": "network.deep_supervision",
    "predict.least_kidney_ml": "predict.least_organ_ml",
    "predict.step": "predict.step_size",
    "train.accumulate": "train.accumulation_steps",
}
"""The new name of each renamed setting, by its old name."""


_MESSAGES = {
    "tuple_type": 'write a list, such as [1, 2] or ["a", "b"]',
    "dict_type": "write a table, such as {name = 1}",
    "model_type": "write a table, such as {name = 1}",
}
"""What is said instead of pydantic's words of Python, by the type of the problem."""


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML ({error}); correct that line") from None


def _validate(tree: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(error)}") from None


def _read_text(path: Path) -> str:
    try:
        # Some editors begin a text with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the settings ({error.strerror}); "
            + advise_reading(error, "give --config a TOML file")
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}); give --config a TOML file") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise InputError(f"--set {override}: write section.field=value, as in train.epochs=10")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    tree.setdefault(parts[0], {})[parts[1]] = value


def _explain(error: ValidationError) -> str:
    """Describe the first problem of a validation in one line, with the field's path."""
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if path in RENAMED:
        return f"setting '{path}' was renamed; write '{RENAMED[path]}'"
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{path}'{_nearest(path)}"
    found = repr(problem["input"])
    message = _MESSAGES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return f"setting '{path}' = {found[:60]}: {message}; see --print-config for what is valid"


def _nearest(path: str) -> str:
    section, _, field = path.rpartition(".")
    names = {s: list(get_section(s).model_fields) for s in Settings.model_fields}
    if section.startswith("labels.evaluation."):
        names[section] = list(EvaluationSettings.model_fields)
    known = [f"{section}.{name}" for name in names[section]] if section in names else list(names)
    # A right name in the wrong section is nearer than a wrong name in the right one.
    elsewhere = [f"{s}.{field}" for s in names if field in names[s]]
    close = elsewhere or difflib.get_close_matches(path, known, 1, 0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid names: {', '.join(known)}"


def get_section(name: str) -> type[Section]:
    """Return the class of a section of `Settings`."""
    annotation = Settings.model_fields[name].annotation
    assert isinstance(annotation, type)
    return annotation
