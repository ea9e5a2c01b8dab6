from benchmarks.nnunet_plans import make_plans


def test_plans_halve_at_every_stage_but_the_first():
    [configuration] = make_plans(2.0, (16, 16, 16), 3, (4, 6, 8, 8))["configurations"].values()
    network = configuration["architecture"]["arch_kwargs"]
    assert network["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert network["features_per_stage"] == [4, 6, 8, 8]
    assert configuration["spacing"] == [2.0, 2.0, 2.0]
    assert configuration["batch_size"] == 3
