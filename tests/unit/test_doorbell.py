"""Waking a rank that sleeps: by another rank, by a source's descriptor, or not at all."""

from __future__ import annotations

import os
import time

import pytest

from hpcstream.exchange.doorbell import LEFT_OUT_S, Doorbell, open_doorbell
from hpcstream.testing.simulation import Simulation

LONG_S = 30.0  # nobody waits for it: what wakes comes first


@pytest.fixture
def bells():
    """Return the bells of three ranks of this host."""
    world = Simulation(3)
    bells = world.run([open_doorbell(world.communicator(rank)) for rank in range(3)])
    yield bells
    for bell in bells:
        bell.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_ring_ends_the_sleep_of_all_others(bells):
    bells[1].ring()

    assert bells[0].wait(LONG_S)
    assert bells[2].wait(LONG_S)
    assert not bells[1].wait(0.0)


def test_many_rings_are_one(bells):
    for _ in range(5000):  # more than a socket holds: nobody waits for the sleeper
        bells[0].ring()

    assert bells[1].wait(LONG_S)
    assert not bells[1].wait(0.0)


def test_a_rank_that_has_gone_is_no_error(bells):
    bells[2].close()

    bells[0].ring()

    assert bells[1].wait(LONG_S)


def test_ranks_of_one_host_reach_each_other(bells):
    assert all(bell.reaches_all for bell in bells)


def test_ranks_without_bells_do_not(monkeypatch):
    monkeypatch.setattr(Doorbell, "open", lambda self: b"")
    world = Simulation(2)

    bells = world.run([open_doorbell(world.communicator(rank)) for rank in range(2)])

    assert not any(bell.reaches_all for bell in bells)
    bells[0].ring()
    assert not bells[1].wait(0.0)


def test_a_rank_alone_reaches_all():
    assert Doorbell().reaches_all


def test_a_descriptor_that_can_be_read_ends_the_sleep(pipe):
    read, write = pipe
    os.write(write, b"x")

    assert Doorbell().wait(LONG_S, [read])


def test_a_descriptor_that_nobody_reads_does_not_keep_the_rank_awake(pipe):
    read, write = pipe
    os.write(write, b"x")
    bell = Doorbell()

    until_s, came = time.monotonic() + 5 * LEFT_OUT_S, []
    while time.monotonic() < until_s:
        came.append(bell.wait(LONG_S, [read]))

    assert came[:3] == [True, False, True]
    assert 2 <= sum(came) <= 5


def test_the_time_is_over_if_nothing_comes(bells):
    started = time.monotonic()

    assert not bells[0].wait(0.01)

    assert time.monotonic() - started >= 0.009
