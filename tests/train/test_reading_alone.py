"""A host reads a checkpoint that all hosts have written without waiting for the others."""

from two_hosts import finish, join

READ = """
def work(index, hosts, *_):
    import numpy as np
    from kitsjax.train.checkpoint import Checkpoints
    from kitsjax.train.checkpoint_record import Progress
    from kitsjax.train.state import TrainState
    params = {"kernel": np.ones(3, np.float32)}
    state = TrainState(np.int32(1), params, {"momentum": np.zeros(3, np.float32)})
    checkpoints = Checkpoints("FOLDER")
    checkpoints.save(state, Progress(1, 1, 0.5), scored=True)
    checkpoints.wait()
    if index == 0:
        print(checkpoints.restore_best(params)[0])
    checkpoints.close()
    hosts.barrier("saving the model")
"""


def test_the_best_is_read_by_one_host_alone(tmp_path):
    with join(READ.replace("FOLDER", str(tmp_path / "checkpoints"))) as started:
        statuses, printed, lines = finish(started)
    assert (statuses, lines) == ([0, 0], [[], []])
    assert printed == ["{'kernel': array([1., 1., 1.], dtype=float32)}\n", ""]
