"""All hosts count the same vote at the same step, whoever was asked to stop."""

import pytest
from two_hosts import finish, join

from kitsjax.train.stop_vote import StopVote

VOTE = """
def work(index, hosts, *_):
    from kitsjax.train.stop_vote import StopVote
    hosts.barrier("starting")
    vote, seen, lines = StopVote([]), SEEN[index], []
    for step in range(6):
        if step == 2:
            vote.seen.extend(seen)
        vote.cast()
        lines.append(f"{step} {vote.signals}")
    # Gloo prints to stdout while it connects.
    print(*lines, sep="\\n", file=sys.stderr)
"""


def test_one_host_decides_for_itself():
    seen = []
    vote = StopVote(seen)
    vote.cast()
    assert vote.signals == []
    seen.append(15)
    assert vote.signals == [15]


def test_one_host_saves_when_it_is_due():
    vote = StopVote([])
    assert [vote.cast(due) for due in (False, True, False)] == [False, True, False]


SAVE = """
def work(index, hosts, *_):
    from kitsjax.train.stop_vote import StopVote
    hosts.barrier("starting")
    vote, due, lines = StopVote([]), False, []
    for step in range(8):
        # The first host's clock says so from step 1 on, the other's never.
        due = due or (index == 0 and step == 1)
        saved = vote.cast(due)
        due = due and not saved
        lines.append(f"{step} {saved}")
    print(*lines, sep="\\n", file=sys.stderr)
"""


def test_hosts_save_at_the_same_step():
    """What one finds due all save a step later, once, though it votes again before it knows."""
    with join(SAVE) as started:
        statuses, _, lines = finish(started)
    assert statuses == [0, 0], lines
    assert lines == [[f"{step} {step == 2}" for step in range(8)]] * 2


@pytest.mark.parametrize(
    ("seen", "agreed"), [(([], []), []), (([], [15]), [15]), (([2], [15]), [15])]
)
def test_hosts_stop_at_the_same_step(seen, agreed):
    """A vote that is cast after step 2 is counted after step 3."""
    with join(VOTE.replace("SEEN", str(seen))) as started:
        statuses, _, lines = finish(started)
    assert statuses == [0, 0], lines
    assert lines == [[f"{step} {agreed if step > 2 else []}" for step in range(6)]] * 2


LATE = """
def work(index, hosts, *_):
    from kitsjax.train.stop_vote import StopVote
    hosts.barrier("starting")
    vote = StopVote([])
    vote.cast()
    vote.seen.extend(SEEN[index])
    print(vote.close(), file=sys.stderr)
"""


@pytest.mark.parametrize(("seen", "agreed"), [(([], []), 0), (([], [15]), 15), (([15], []), 15)])
def test_hosts_end_alike_after_the_last_step(seen, agreed):
    with join(LATE.replace("SEEN", str(seen))) as started:
        statuses, _, lines = finish(started)
    assert (statuses, lines) == ([0, 0], 2 * [[str(agreed)]])
