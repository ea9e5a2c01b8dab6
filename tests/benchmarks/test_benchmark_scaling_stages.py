from benchmarks.scaling_stages import SECONDS, measure_points


def test_a_stage_is_measured_at_the_given_sizes(tmp_path):
    points = measure_points("resample", tmp_path, [8, 16])
    assert [(p["size"], p["cost"]) for p in points] == [(8**3, SECONDS), (16**3, SECONDS)]
    assert all(p["value"] > 0 for p in points)
