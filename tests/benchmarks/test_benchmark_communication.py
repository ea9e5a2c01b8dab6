from benchmarks.communication import Collective, find_collectives

HLO = """HloModule step

%body (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %sum.1 = f32[2,2]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}

%all-reduce_of (p: f32[2]) -> f32[2] {
  ROOT %fusion.2 = f32[2]{0} fusion(%p), kind=kLoop
}

ENTRY %main.3 (p0: f32[1,4]) -> (f32[4]) {
  %all-reduce.1 = (f32[3,3]{1,0}, bf16[8]{0}, /*index=2*/f32[]) all-reduce(%a, %b, %c), channel_id=1
  %get-tuple-element.1 = f32[3,3]{1,0} get-tuple-element(%all-reduce.1), index=0
  %gathered = u8[16]{0} all-gather(%d), dimensions={0}
  %begun = f32[10]{0} all-reduce-start(%e), channel_id=2
  %done = f32[10]{0} all-reduce-done(%begun)
  ROOT %last = f32[4]{0} collective-permute(%f), source_target_pairs={{0,1}}
}
"""


def test_collectives_are_found_with_their_bytes():
    assert find_collectives(HLO) == [
        Collective("all-reduce", 16, in_loop=True),
        Collective("all-reduce", 36 + 16 + 4, in_loop=False),
        Collective("all-gather", 16, in_loop=False),
        Collective("all-reduce", 40, in_loop=False),
        Collective("collective-permute", 16, in_loop=False),
    ]
