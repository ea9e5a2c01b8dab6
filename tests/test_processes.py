"""Whether a process runs: one that ended, a zombie, and another that has its number."""

import os
import subprocess
import sys

from processes import wait_until

from kitsjax.processes import (
    host_name,
    is_running,
    machine_id,
    own_order,
    process_start,
    take_shard,
)


def test_own_process_runs():
    own = os.getpid()
    assert is_running(own)
    assert is_running(own, process_start(own))
    assert not is_running(own, process_start(own) + "0"), "a later process with the same number"
    assert not is_running(2**62)


def test_killed_process_does_not_run():
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert is_running(job.pid)
    job.kill()
    # It is a zombie until its parent waits for it.
    assert wait_until(lambda: not is_running(job.pid))
    job.wait()
    assert not is_running(job.pid)


def test_each_process_has_its_own_order():
    orders = [own_order(range(12)) for _ in range(3)]
    assert [sorted(order) for order in orders] == [list(range(12))] * 3
    assert len({tuple(order) for order in orders}) > 1


def test_names_of_hosts_fit_into_file_names(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "node 1/" + "\u00e9" * 100)
    host_name.cache_clear()
    assert host_name() == "node_1_" + "_" * 25
    monkeypatch.undo()
    host_name.cache_clear()
    assert len(machine_id()) == 8


def test_shards_hold_each_item_once():
    items = list(range(10))
    shards = [take_shard(items, (index, 4)) for index in range(4)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert take_shard(items[:2], (3, 4)) == []
