"""The hosts of a run: which one this is, what they wait for, and what they agree on.

A host is one process of the run, as JAX joined it; usually a machine has one. What the hosts tell
each other goes through the key-value store of JAX's coordination service, which the first host
runs.
"""

import itertools
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from kitsjax.errors import InputError, RetryError

WORK_SECONDS = 7 * 24 * 3600.0
"""Longest wait for work that may take hours, such as preprocessing and scoring.

A host that has died or failed is noticed much sooner (`host_watch`).
"""

NOTED_SECONDS, NOTED_AGAIN_SECONDS = 60.0, 600.0
"""A wait is told of after the first time, and again after the second."""

_SLICE_SECONDS = 1.0
"""Between two looks at the store Python handles signals."""

_turn = itertools.count()


def is_main() -> bool:
    """Tell whether this is the main process: the one that prints, and writes the run folder."""
    return host_index() == 0


def host_index() -> int:
    """Return the number of this host, from 0."""
    return jax.process_index()


def host_count() -> int:
    """Return the number of hosts of the run."""
    return jax.process_count()


def barrier(name: str, seconds: float = WORK_SECONDS) -> None:
    """Wait until every host reaches this point; see `exchange`."""
    exchange(name, "", seconds)


def exchange(name: str, value: str, seconds: float = WORK_SECONDS) -> list[str]:
    """Give this host's value to all hosts, and return everyone's in the order of the hosts.

    All hosts call this in the same order. A line on stderr says for what and for how many hosts
    this one waits, once it has waited for a minute.

    Args:
        name: what the hosts do before this point, such as "scoring", the same on all of them.
        value: any text.
        seconds: the longest wait.

    Raises:
        InputError: another host waits for something else, since its command is another one.
        RetryError: a host did not come in time.
    """
    hosts = host_count()
    if hosts == 1:
        return [value]
    client, prefix = coordination_client(), f"kitsjax/{next(_turn)}"
    began = time.monotonic()
    note_at = began + NOTED_SECONDS
    client.key_value_set(f"{prefix}/{host_index()}", json.dumps([name, value]))
    values: list[str] = []
    while len(values) < hosts:
        try:
            index = len(values)
            found = client.blocking_key_value_get(f"{prefix}/{index}", int(1000 * _SLICE_SECONDS))
            values.append(_take_value(name, index, found))
            continue
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        now = time.monotonic()
        if now >= min(note_at, began + seconds):
            missing = hosts - len(client.key_value_dir_get(f"{prefix}/"))
            text = f"waiting for {missing} of {hosts} hosts: {name}"
            if now >= began + seconds:
                raise RetryError(f"{text}; gave up after {seconds:.0f} s; start all hosts again")
            print(text, file=sys.stderr, flush=True)
            note_at = now + NOTED_AGAIN_SECONDS
    return values


def tell_all(name: str, value: str) -> str:
    """Return the main process's value on all hosts; see `exchange`."""
    return exchange(name, value)[0]


def agree(
    name: str,
    facts: Mapping[str, Any],
    advice: str,
    failure: type[InputError] = InputError,
    seconds: float = 600.0,
) -> None:
    """Compare facts between all hosts.

    Args:
        name: what the facts are about, such as "settings".
        facts: values that JSON can hold, by name, the same names on all hosts. Of what is long
            give a hash.
        advice: what to do if they differ.
        failure: what to raise then.
        seconds: the longest wait for another host.

    Raises:
        InputError, or `failure`: a fact differs. The message, which all hosts raise, names the
            first one with its values on two hosts.
    """
    stated = [json.loads(text) for text in exchange(name, json.dumps(facts), seconds)]
    for fact in stated[0]:
        for index, other in enumerate(stated):
            if other.get(fact) != stated[0][fact]:
                first, second = (json.dumps(s.get(fact)) for s in (stated[0], other))
                raise failure(
                    f"the hosts differ in {fact}: {first} on host 0, {second} on host {index}; "
                    f"{advice}"
                )


def coordination_client() -> Any:
    """Return the client of JAX's coordination service, whose key-value store hosts share.

    JAX has no public name for it.
    """
    from jax._src import distributed

    return distributed.global_state.client


def _take_value(name: str, index: int, found: str) -> str:
    """Return a host's value from what it has sent, if that is for the wait of this name.

    Raises:
        InputError: it is for another one.
    """
    other, value = json.loads(found)
    if other != name:
        raise InputError(
            f"the hosts differ in what they wait for: {name!r} on host {host_index()}, {other!r} "
            f"on host {index}; start all of them with the same command"
        )
    return str(value)
