"""Which GPUs a process takes under SLURM."""

import pytest

from kitsjax.devices import choose_local_devices

STEP = {"SLURM_LOCALID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"}, [3]),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),1", "SLURM_NTASKS": "9", "SLURM_NODEID": "2"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),1", "SLURM_NTASKS": "9", "SLURM_NODEID": "1"}, [0]),
        # Each of four processes sees one GPU, which has the number 0 for all of them.
        ({"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "2"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, [0]),
        # Each of two sees its own four GPUs, or all of the machine.
        *[
            (
                {
                    "SLURM_STEP_TASKS_PER_NODE": "2",
                    "SLURM_GPUS_PER_TASK": asked,
                    "CUDA_VISIBLE_DEVICES": visible,
                },
                expected,
            )
            for asked, visible, expected in [
                ("4", "0,1,2,3", []),
                ("gpu:4", "0,1,2,3", []),
                ("a100:4", "4,5,6,7", []),
                ("a100:1,h100:2", "0,1,2", []),
                ("1", "0,1", [0]),
                ("1", "", [0]),
                ("2", "0,1,2,3", [0, 1]),
            ]
        ],
        ({"JAX_LOCAL_DEVICE_IDS": "1"}, None),
        ({"SLURM_NTASKS": "8"}, [0]),
    ],
)
def test_gpus_of_a_process_under_slurm(variables, expected):
    """Alone on its machine a process takes all; of several, each takes its own."""
    assert choose_local_devices(STEP | variables) == expected


def test_elsewhere_jax_chooses():
    assert choose_local_devices({"CUDA_VISIBLE_DEVICES": "0,1"}) is None
