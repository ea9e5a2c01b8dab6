"""A label scheme as JSON, for the files that carry it."""

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from kitsjax.labels import LabelScheme

_SCHEME = TypeAdapter(LabelScheme)


def scheme_to_json(scheme: LabelScheme) -> dict[str, Any]:
    """Return a label scheme as what `json.dumps` takes; named tuples become lists."""
    return asdict(scheme)


def scheme_from_json(content: object) -> LabelScheme:
    """Make a label scheme of what `scheme_to_json` returned and JSON has stored.

    Raises:
        ValueError: It is no label scheme; pydantic's error names the first wrong field.
    """
    return _SCHEME.validate_python(content)
