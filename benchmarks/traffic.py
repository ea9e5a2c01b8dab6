"""What devices exchange in a compiled program, read from its optimized HLO."""

import re
from math import prod
from typing import NamedTuple

_KINDS = (
    "all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "reduce-scatter",
    "collective-permute", "collective-broadcast", "send", "recv",
)  # fmt: skip

# `%name = RESULT KIND(operands), ...`; of an asynchronous pair, the -start.
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (.*?) ({'|'.join(_KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+)(\d+)\w*\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?[\w.-]+ \(.*\{$")


class Collective(NamedTuple):
    """An operation that devices do together.

    Attributes:
        kind: in XLA's words, such as "all-reduce".
        bytes: of its results on one device; for an all-reduce, what each device contributes.
        in_loop: within a loop or another called computation, and so perhaps oftener than once.
    """

    kind: str
    bytes: int
    in_loop: bool


def find_collectives(text: str) -> list[Collective]:
    """The collectives of a program, in its order.

    Args:
        text: `compiled.as_text()`.
    """
    found, in_entry = [], False
    for line in text.splitlines():
        if computation := _COMPUTATION.match(line):
            in_entry = computation[1] is not None
        elif operation := _OPERATION.match(line):
            result, kind = operation.groups()
            found.append(Collective(kind, _count_bytes(result), not in_entry))
    return found


def _count_bytes(result: str) -> int:
    """Of a result such as `(f32[2,3]{1,0}, bf16[])`."""
    # A predicate has no number of bits, and nobody sends any.
    return sum(
        int(bits) // 8 * prod(int(size) for size in shape.split(",") if size)
        for _, bits, shape in _ARRAY.findall(result)
    )
