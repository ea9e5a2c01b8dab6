"""Bytes that a compiled program moves, counted in its text, where XLA gives no count: on GPUs.

After optimization each top-level instruction of a program for a GPU is a kernel or a call of a
library: it reads its operands from memory and writes its results there. Of an operand that is only
sliced it reads the slices, and a slice is updated in place. What a library does within a call, such
as a change of layout in cuDNN, does not show.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64,
}  # fmt: skip

_NO_TRAFFIC = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency",
})  # fmt: skip
"""Instructions that only name or rearrange what is in memory already."""

_SLICES = frozenset({"slice", "dynamic-slice"})
"""Instructions that read a part of their first operand."""

_UPDATE = "dynamic-update-slice"
"""The instruction that writes its second operand into a part of the first, in place."""

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class _Instruction:
    """A line of a program: its name, the type of its result, its operation and the rest."""

    name: str
    kind: str
    operation: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """Names of the operands, which stand before the closing parenthesis."""
        return re.findall(r"%([\w.\-]+)", self.rest.partition("), ")[0])

    def called(self, key: str) -> list[str]:
        """Names of the computations after a key, such as `body=%name` or a list in braces."""
        found = re.search(rf"\b{key}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.rest)
        text = (found[1] or found[2]) if found else ""
        return re.findall(r"[\w.\-]+", text)


def count_program_bytes(text: str) -> float:
    """Count the bytes that a program's instructions read and write in memory.

    Args:
        text: the optimized program, from `Compiled.as_text()`. The body of a loop counts as often
            as it runs, or once where the program does not tell; of two branches the larger counts.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = _parse(text)
    return _count(computations, entry)


def count_convolutions(text: str) -> dict[str, int]:
    """Count a program's convolutions by the order of their axes, such as `b012f_o012i->b012f`."""
    found: dict[str, int] = {}
    for order in re.findall(r"dim_labels=([\w?]+->[\w?]+)", text):
        found[order] = found.get(order, 0) + 1
    return found


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations: dict[str, list[_Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = header[2]
            computations[current] = []
            entry = current if header[1] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(_Instruction(*found.groups()))
    if not entry:
        raise ValueError("the text of the program has no entry computation")
    return computations, entry


def _count(computations: dict[str, list[_Instruction]], name: str) -> float:
    instructions = computations[name]
    sizes = {each.name: _size(each.kind) for each in instructions}
    return sum(_traffic(each, sizes, computations) for each in instructions)


def _traffic(
    instruction: _Instruction,
    sizes: dict[str, float],
    computations: dict[str, list[_Instruction]],
) -> float:
    """Count the bytes of one instruction with all that it calls."""
    operation = instruction.operation
    # The end of an asynchronous operation moves nothing that its start has not.
    if operation in _NO_TRAFFIC or operation.endswith(("-done", "-update")):
        return 0
    if operation == "while":
        trips = _TRIPS.search(instruction.rest)
        bodies = instruction.called("body") + instruction.called("condition")
        return (int(trips[1]) if trips else 1) * sum(_count(computations, each) for each in bodies)
    if operation == "conditional":
        return max(_count(computations, each) for each in _branches(instruction))
    if operation == "call":
        return sum(_count(computations, each) for each in instruction.called("to_apply"))
    if operation.endswith("-start") and operation != "all-reduce-start":
        # Its result names the operands again, beside what is written.
        return sizes[instruction.name]
    if operation == "fusion":
        (fused,) = instruction.called("calls")
        return _count_fusion(computations[fused])
    if operation in _SLICES:
        return 2 * sizes[instruction.name]
    if operation == _UPDATE:
        return 2 * sizes[instruction.operands[1]]
    return sizes[instruction.name] + sum(sizes.get(each, 0) for each in instruction.operands)


def _count_fusion(fused: list[_Instruction]) -> float:
    """Count what a fusion reads of its parameters and writes of its results.

    Of a parameter that is only sliced it reads the slices. A slice is updated in place.
    """
    sizes = {each.name: _size(each.kind) for each in fused}
    users: dict[str, list[_Instruction]] = {each.name: [] for each in fused}
    for each in fused:
        for operand in set(each.operands) & users.keys():
            users[operand].append(each)

    written = list(_written(fused[-1], {each.name: each for each in fused}))
    updated = {each.name for each in written if each.operation == _UPDATE}

    def read(name: str) -> float:
        total = 0.0
        for user in users[name]:
            if user.operation == "bitcast":
                total += read(user.name)
            elif user.operation in _SLICES and user.operands[0] == name:
                total += sizes[user.name]
            elif user.name not in updated or user.operands[0] != name:
                return sizes[name]
        return min(total, sizes[name])

    total = sum(sizes[each.operands[1] if each.name in updated else each.name] for each in written)
    return total + sum(read(each.name) for each in fused if each.operation == "parameter")


def _written(root: _Instruction, by_name: dict[str, _Instruction]) -> Iterator[_Instruction]:
    """Yield the instructions of a fusion that write the results which its root names."""
    if root.operation not in ("tuple", "bitcast"):
        yield root
        return
    for operand in root.operands if root.operation == "tuple" else root.operands[:1]:
        yield from _written(by_name[operand], by_name)


def _branches(instruction: _Instruction) -> Iterator[str]:
    yield from instruction.called("branch_computations")
    for key in ("true_computation", "false_computation"):
        yield from instruction.called(key)


def _size(kind: str) -> float:
    """Compute the bytes of a type, an array or a tuple of them."""
    return sum(
        _BITS.get(name, 32) / 8 * math.prod(int(edge) for edge in edges.split(",") if edge)
        for name, edges in _ARRAY.findall(kind)
    )
