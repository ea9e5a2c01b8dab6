"""Inject every fault of the catalog and print a table of trials and losses.

    python tests/faults/run.py                  # 50 random moments of each signal: an hour
    python tests/faults/run.py --trials 3
    python tests/faults/run.py --only kill

A loss is a trial whose outcome is not the promised one. The exit status is 1 if there is any. More
arguments, such as `-n 0`, go to pytest.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each fault, what is promised, and the beginnings of the names of the tests that inject it.
CATALOG = {
    "killed (SIGKILL) at a random moment": (
        "the next start ends as an unbroken run, bit for bit",
        ["faults/test_kills.py::test_what_follows_equals_the_unbroken_run[1-kill"],
    ),
    "two hosts, one or both killed (SIGKILL)": (
        "the other ends with status 75; the same",
        ["faults/test_kills.py::test_what_follows_equals_the_unbroken_run[2-kill"],
    ),
    "stopped (SIGTERM) at a random moment": (
        "saved, status 143; the next start ends as an unbroken run",
        ["faults/test_kills.py::test_what_follows_equals_the_unbroken_run[1-term"],
    ),
    "two hosts, one or both stopped (SIGTERM)": (
        "both saved at one step, status 143; the same",
        ["faults/test_kills.py::test_what_follows_equals_the_unbroken_run[2-term"],
    ),
    "stopped at each moment of a run": (
        "the same",
        ["train/test_loop.py::test_a_stop_at_any_moment_loses_nothing"],
    ),
    "checkpoint cut, emptied, zeroed, flipped or removed": (
        "moved aside and named; the one before is used",
        [
            "train/test_checkpoint.py::test_a_damaged",
            "train/test_checkpoint.py::test_two_damages",
            "train/test_checkpoint.py::test_if_all_are_damaged",
            "train/test_checkpoint.py::test_a_changed_record",
        ],
    ),
    "full disk": (
        "one line; what was there stays",
        [
            "test_files.py::test_a_full_disk",
            "train/test_checkpoint.py::test_a_failed",
            "data/test_preprocess_case.py::test_failure_within_a_write",
        ],
    ),
    "folder that cannot be written": (
        "refused by name before any work",
        ["test_files.py::test_unwritable", "test_files.py::test_checking_a_folder"],
    ),
    "cache file deleted or cut": (
        "made again",
        ["data/test_preprocess_cases.py::test_damaged"],
    ),
    "cache file with a flipped bit": (
        "refused by name at the first read",
        ["data/test_stored_arrays.py::test_a_flipped_bit"],
    ),
    "two runs on one folder": ("the second is told whose it is", ["test_run_lock.py::"]),
    "settings changed before a resume": (
        "refused with both values, or safe",
        ["train/test_run_folder.py::test_resume"],
    ),
    "device out of memory": (
        "named settings that need less",
        ["train/test_step_errors.py::test_lack_of_memory"],
    ),
    "NaN voxel, one slice, tiny, huge, constant, no foreground": (
        "trains and is predicted, or is refused by name",
        ["faults/test_odd_cases.py::"],
    ),
    "any geometry, window, patch, mask": (
        "round trips, coverage, content, symmetry",
        ["faults/test_properties.py::"],
    ),
}


class Outcomes:
    """A pytest plugin that counts the outcomes of each fault."""

    def __init__(self):
        self.trials, self.losses, self.properties = Counter(), Counter(), Counter()

    def pytest_collection_modifyitems(self, config, items):
        wanted = [item for item in items if find_fault(item.nodeid)]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted

    def pytest_runtest_logreport(self, report):
        fault = find_fault(report.nodeid)
        if report.when == "call":
            self.trials[fault] += 1
            self.properties.update((fault, name) for name, found in report.user_properties if found)
        elif report.failed:
            self.trials[fault] += 1
        self.losses[fault] += report.failed


def find_fault(node):
    """Name the fault that a test injects; None if it injects none."""
    name = node.removeprefix("tests/")
    for fault, (_, beginnings) in CATALOG.items():
        if name.startswith(tuple(beginnings)):
            return fault
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=50, help="random moments of each signal")
    parser.add_argument("--only", default="", help="faults whose description has this text")
    options, more = parser.parse_known_args()
    os.environ["KITSJAX_FAULT_TRIALS"] = str(options.trials)
    os.chdir(ROOT)
    chosen = {name: row for name, row in CATALOG.items() if options.only in name}
    # Workers of pytest-xdist have no plugin of this process, so that they are told by options.
    others = [test for name, row in CATALOG.items() if name not in chosen for test in row[1]]
    more += [f"--deselect=tests/{test}" for test in others]
    CATALOG.clear()
    CATALOG.update(chosen)
    files = {f"tests/{name.partition('::')[0]}" for _, tests in chosen.values() for name in tests}
    outcomes = Outcomes()
    status = pytest.main([*sorted(files), *more], plugins=[outcomes])
    print("\n| fault | promised | trials | losses | of these trials |\n|---|---|---:|---:|---|")
    for fault, (promise, _) in chosen.items():
        notes = [f"{n} {key}" for (of, key), n in outcomes.properties.items() if of == fault]
        counts = f"{outcomes.trials[fault]} | {outcomes.losses[fault]} | {', '.join(notes)}"
        print(f"| {fault} | {promise} | {counts} |")
    untried = [fault for fault in chosen if not outcomes.trials[fault]]
    if untried:
        print(f"not tried: {', '.join(untried)}", file=sys.stderr)
    return 1 if status or untried else 0


if __name__ == "__main__":
    sys.exit(main())
