"""The count of bytes in the text of a program, against counts by hand."""

import pytest

from kitsjax.plan.program_bytes import count_convolutions, count_program_bytes

FUSED = """
%fused (p.1: f32[8]) -> bf16[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %half = bf16[8]{0} convert(%p.1)
}
"""


def program(*lines, others=FUSED):
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m\n{others}\nENTRY %main (a: f32[8]) -> f32[8] {{\n{body}\n}}\n"


A = "%a = f32[8]{0} parameter(0)"


def test_an_instruction_reads_and_writes():
    """32 bytes are read and 16 written; a fusion counts as a whole, not what is within."""
    text = program(A, "ROOT %b = bf16[8]{0} fusion(%a), kind=kLoop, calls=%fused")
    assert count_program_bytes(text) == 32 + 16


SLICED = """
%part (p.2: f32[8], q.2: f32[2]) -> f32[2] {
  %p.2 = f32[8]{0} parameter(0)
  %q.2 = f32[2]{0} parameter(1)
  %v.2 = f32[8]{0} bitcast(%p.2)
  %s.2 = f32[2]{0} slice(%v.2), slice={[0:2]}
  ROOT %sum = f32[2]{0} add(%s.2, %q.2)
}

%update (p.3: f32[8], q.3: f32[2], i.3: s32[]) -> f32[8] {
  %p.3 = f32[8]{0} parameter(0)
  %q.3 = f32[2]{0} parameter(1)
  %i.3 = s32[] parameter(2)
  ROOT %u.3 = f32[8]{0} dynamic-update-slice(%p.3, %q.3, %i.3)
}

%both (p.4: f32[8], q.4: f32[2], i.4: s32[]) -> f32[8] {
  %p.4 = f32[8]{0} parameter(0)
  %q.4 = f32[2]{0} parameter(1)
  %i.4 = s32[] parameter(2)
  %u.4 = f32[8]{0} dynamic-update-slice(%p.4, %q.4, %i.4)
  ROOT %n.4 = f32[8]{0} negate(%u.4)
}
"""


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("f32[2]{0} fusion(%a, %b), kind=kLoop, calls=%part", 8 + 8 + 8),
        ("f32[8]{0} fusion(%a, %b, %i), kind=kLoop, calls=%update", 8 + 4 + 8),
        ("f32[8]{0} fusion(%a, %b, %i), kind=kLoop, calls=%both", 32 + 8 + 4 + 32),
        ("f32[2]{0} slice(%a), slice={[0:2]}", 8 + 8),
        ("f32[8]{0} dynamic-update-slice(%a, %b, %i)", 8 + 8),
    ],
    ids=["sliced", "updated", "updated and read", "slice", "update"],
)
def test_a_slice_counts_as_a_slice(line, moved):
    """What is sliced is read in part, and what is updated stays where it is."""
    b, i = "%b = f32[2]{0} parameter(1)", "%i = s32[] parameter(2)"
    assert count_program_bytes(program(A, b, i, f"ROOT %r = {line}", others=SLICED)) == moved


def test_names_and_views_move_nothing():
    text = program(
        A,
        "%v = f32[2,4]{1,0} bitcast(%a)",
        "%t = (f32[2,4]{1,0}, f32[8]{0}) tuple(%v, %a)",
        "ROOT %g = f32[8]{0} get-tuple-element(%t), index=1",
    )
    assert count_program_bytes(text) == 0


def test_a_library_call_has_several_results():
    """The result and the workspace of a call are written, both operands are read."""
    call = (
        "ROOT %c = (f32[2,4]{1,0}, u8[100]{0}) custom-call(%a, %a), window={size=3x3x3}, "
        'dim_labels=b012f_o012i->b012f, custom_call_target="__cudnn$convForward"'
    )
    text = program(A, call)
    assert count_program_bytes(text) == 32 + 32 + 32 + 100
    assert count_convolutions(text) == {"b012f_o012i->b012f": 1}


@pytest.mark.parametrize(("known", "times"), [(True, 5), (False, 1)])
def test_a_loop_counts_as_often_as_it_runs(known, times):
    body = """
%body (s: (f32[8])) -> (f32[8]) {
  %s = (f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%s), index=0
  %y = f32[8]{0} copy(%x)
  ROOT %r = (f32[8]{0}) tuple(%y)
}

%condition (s.1: (f32[8])) -> pred[] {
  %s.1 = (f32[8]{0}) parameter(0)
  ROOT %k = pred[] constant(true)
}
"""
    trips = ', backend_config={"known_trip_count":{"n":"5"}}' if known else ""
    text = program(
        A,
        "%t = (f32[8]{0}) tuple(%a)",
        f"%w = (f32[8]{{0}}) while(%t), condition=%condition, body=%body{trips}",
        "ROOT %o = f32[8]{0} get-tuple-element(%w), index=0",
        others=body,
    )
    assert count_program_bytes(text) == times * 64


def test_the_larger_branch_counts():
    branches = """
%large (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %c = f32[8]{0} copy(%p)
}

%small (q: f32[8]) -> f32[8] {
  ROOT %q = f32[8]{0} parameter(0)
}
"""
    rest = "branch_computations={%small, %large}"
    text = program(A, f"ROOT %b = f32[8]{{0}} conditional(%a, %a, %a), {rest}", others=branches)
    assert count_program_bytes(text) == 64


@pytest.mark.parametrize(
    ("start", "done", "expected"),
    [
        # Tuples with the operand, one of them with a context; and the result alone.
        ("(f32[8]{0}, f32[16]{0}) all-gather-start(%a), dimensions={0}", "all-gather-done", 96),
        ("(f32[8]{0}, f32[8]{0}, u32[]) copy-start(%a)", "copy-done", 68),
        ("f32[8]{0} all-reduce-start(%a), replica_groups={{0,1}}, to_apply=%sum",
         "all-reduce-done", 64),
    ],
)  # fmt: skip
def test_an_asynchronous_operation_counts_once(start, done, expected):
    text = program(A, f"%s = {start}", f"ROOT %d = f32[8]{{0}} {done}(%s)")
    assert count_program_bytes(text) == expected


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        count_program_bytes("nothing")
