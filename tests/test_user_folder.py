"""The folder of another user, for tests of permissions that root would not feel."""

import gc
import os
import weakref

import pytest


class Loop:
    """An object that only the garbage collector frees."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def freed_as():
    """The user now, and as whom two leftovers of a test are freed; the second is still in use."""
    users, kept = [], [Loop()]
    for left in (Loop(), kept[0]):
        weakref.finalize(left, lambda: users.append(os.geteuid()))
    del left
    return os.geteuid(), users, kept


def test_nobody_frees_what_the_tests_left(freed_as, user_folder):
    """It may not be allowed to: semaphores of an earlier test belong to the first user."""
    before, users, kept = freed_as
    kept.clear()
    gc.collect()
    assert user_folder.stat().st_uid == os.geteuid()
    assert set(users) == {before}
