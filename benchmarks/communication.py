"""The communication volume of a compiled computation, read from its optimized HLO."""

import re
from math import prod
from typing import NamedTuple

_KINDS = (
    "all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "reduce-scatter",
    "collective-permute", "collective-broadcast", "send", "recv",
)  # fmt: skip

# `%name = RESULT KIND(operands), ...`. An asynchronous collective is a pair; its -start counts.
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (.*?) ({'|'.join(_KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+)(\d+)\w*\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?[\w.-]+ \(.*\{$")


class Collective(NamedTuple):
    """An operation that the devices do together.

    Attributes:
        kind: XLA's name for it, such as "all-reduce".
        bytes: size of its results on one device; for an all-reduce, what each device sends.
        in_loop: it belongs to a loop or another called computation, which may run several times.
    """

    kind: str
    bytes: int
    in_loop: bool


def find_collectives(text: str) -> list[Collective]:
    """List the collectives of `compiled.as_text()`, in its order."""
    found, in_entry = [], False
    for line in text.splitlines():
        if computation := _COMPUTATION.match(line):
            in_entry = computation[1] is not None
        elif operation := _OPERATION.match(line):
            result, kind = operation.groups()
            found.append(Collective(kind, _count_bytes(result), not in_entry))
    return found


def _count_bytes(result: str) -> int:
    """Count the bytes of a result such as `(f32[2,3]{1,0}, bf16[])`."""
    # Predicates, whose type names no number of bits, are not counted; no device sends any.
    return sum(
        int(bits) // 8 * prod(int(size) for size in shape.split(",") if size)
        for _, bits, shape in _ARRAY.findall(result)
    )
