"""Label schemes from the settings in [labels], and back."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kitsjax.errors import InputError
from kitsjax.labels import KITS, EvaluationClass, LabelScheme
from kitsjax.settings import EvaluationSettings, LabelSettings

UNION_KEY, UNION_TITLE = "foreground", "All labels"
"""Key and title of the union of all labels, the first evaluation class where none are given.

Beside a label of its name the key ends with an underscore.
"""

DEFAULT_TOLERANCE_MM = EvaluationSettings(labels=("any",)).tolerance_mm
"""Tolerance of the surface Dice of a class without its own, mm."""


def make_scheme(settings: LabelSettings, own: LabelScheme = KITS) -> LabelScheme:
    """Make the label scheme that the settings describe.

    Args:
        settings: section [labels]. Without `names` it is the data set's own scheme, in which the
            other settings that are given replace their parts.
        own: the data set's own scheme.

    Raises:
        InputError: The settings contradict each other or the scheme; the message names the setting.
    """
    names = ("background", *settings.names) if settings.names else own.names
    if settings.evaluation:
        classes = tuple(
            EvaluationClass(
                key,
                each.title or _make_title(key),
                _find_values(names, each.labels, f"labels.evaluation.{key}.labels"),
                each.tolerance_mm,
            )
            for key, each in settings.evaluation.items()
        )
    else:
        classes = _score_each_label(settings.names) if settings.names else own.evaluation
    changes: dict[str, Any] = {}
    if settings.lesions:
        changes["lesions"] = _find_values(names, settings.lesions, "labels.lesions")
    if settings.ignore:
        changes["ignore"] = len(names)
    if settings.colors:
        changes["colors"] = settings.colors
        if len(settings.colors) != len(names) - 1:
            raise InputError(
                f"labels.colors: {len(settings.colors)} colors for {len(names) - 1} labels "
                f"({', '.join(names[1:])}); give one for each"
            )
    scheme = LabelScheme(names, classes) if settings.names else replace(own, evaluation=classes)
    return replace(scheme, **changes)


def describe_scheme(scheme: LabelScheme) -> LabelSettings:
    """Return settings of which `make_scheme` makes this scheme, without the data set's own.

    What settings cannot say, the order of painting and the codes, is lost unless it is KiTS's.
    """
    own = KITS if (scheme.names, scheme.codes) == (KITS.names, KITS.codes) else None
    names = {value: scheme.names[value] for value in scheme.foreground}
    every: dict[str, Any] = {
        "names": tuple(names.values()),
        "lesions": tuple(names[value] for value in scheme.lesions),
        "colors": scheme.colors,
        "evaluation": {
            each.key: EvaluationSettings(
                title=each.title,
                labels=tuple(names[value] for value in each.labels),
                tolerance_mm=each.tolerance_mm,
            )
            for each in scheme.evaluation
        },
    }
    changed = {
        name: value
        for name, value in every.items()
        if own is None or getattr(own, name) != getattr(scheme, name)
    }
    return LabelSettings(ignore=scheme.ignore is not None, **changed)


def _score_each_label(names: tuple[str, ...]) -> tuple[EvaluationClass, ...]:
    """List an evaluation class for each label, after the union of all if there are several."""
    classes = [
        EvaluationClass(name, _make_title(name), (value,), DEFAULT_TOLERANCE_MM)
        for value, name in enumerate(names, start=1)
    ]
    if len(names) == 1:
        return tuple(classes)
    key = UNION_KEY
    while key in names:
        key += "_"
    union = tuple(range(1, len(names) + 1))
    return EvaluationClass(key, UNION_TITLE, union, DEFAULT_TOLERANCE_MM), *classes


def _make_title(name: str) -> str:
    return (name[0].upper() + name[1:]).replace("_", " ")


def _find_values(names: tuple[str, ...], found: Iterable[str], setting: str) -> tuple[int, ...]:
    """Find the values of labels by name, without repeats, in the order of values."""
    values = set()
    for name in found:
        if name not in names[1:]:
            raise InputError(
                f"{setting}: {name!r} is no label; the labels are {', '.join(names[1:])}"
            )
        values.add(names.index(name))
    return tuple(sorted(values))
