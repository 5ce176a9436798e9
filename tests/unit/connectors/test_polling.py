"""Readers whose rows come from a thread or an event loop: order, bounds, errors, the end."""

from __future__ import annotations

import asyncio
import os
import random
import select
import threading
import time
import traceback

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.connectors.base import Split
from hpcstream.connectors.polling import Closed, Poller
from hpcstream.errors import ConnectorError

SCHEMA = pa.schema({"x": pa.int64()})
WAIT_S = 30.0


def batch_of(*values):
    return pa.record_batch({"x": pa.array(values, pa.int64())}, SCHEMA)


def wait_until(condition):
    """Wait for another thread; the time is for broken code only."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, "the other thread did not get there"
        time.sleep(0.001)


def wait_for_rows(poller):
    assert select.select([poller.wake_descriptor()], [], [], WAIT_S)[0], "nothing woke the rank"


def read_all(poller, max_rows=1000):
    rows, positions = [], []
    while True:
        wait_for_rows(poller)
        chunk = poller.read(max_rows)
        if chunk is None:
            return rows, positions
        rows += chunk.batch["x"].to_pylist()
        positions.append(chunk.position)


def is_readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


def numbers(n, delays):
    def produce(poller):
        for i in range(n):
            time.sleep(delays[i % len(delays)])
            poller.put(batch_of(2 * i, 2 * i + 1), f"id-{i}")

    return produce


def numbers_of_a_loop(n, delays):
    async def produce(poller):
        for i in range(n):
            await asyncio.sleep(delays[i % len(delays)])
            await poller.put_async(batch_of(2 * i, 2 * i + 1), f"id-{i}")

    return produce


@pytest.mark.parametrize("make", [numbers, numbers_of_a_loop])
@pytest.mark.parametrize("queue_bytes", [1, 40, 1 << 20])
@pytest.mark.parametrize("seed", range(2))
def test_every_row_comes_once_in_order_with_the_position_of_its_end(make, queue_bytes, seed):
    chance = random.Random(seed)
    delays = [chance.choice([0, 0, 0, 0.001]) for _ in range(20)]
    poller = Poller(SCHEMA, make(200, delays), queue_bytes=queue_bytes)

    rows, at = [], []
    while True:
        wait_for_rows(poller)
        chunk = poller.read(chance.randint(1, 30))
        if chunk is None:
            break
        rows += chunk.batch["x"].to_pylist()
        at.append((chunk.position, rows[-1]) if chunk.scanned else (chunk.position, None))
        time.sleep(chance.choice([0, 0, 0.0005]))
    poller.close()

    assert rows == list(range(400))
    assert all(last == 2 * int(name[3:]) + 1 for name, last in at)


def test_an_empty_queue_gives_an_empty_chunk_and_does_not_wake():
    go = threading.Event()

    def produce(poller):
        go.wait()
        poller.put(batch_of(7), 1)
        go.clear()
        go.wait()

    poller = Poller(SCHEMA, produce)
    descriptor = poller.wake_descriptor()

    assert poller.read(10).scanned == 0
    assert not is_readable(descriptor)
    go.set()
    wait_for_rows(poller)
    assert poller.read(10).batch == batch_of(7)
    assert not is_readable(descriptor)
    assert poller.read(10).scanned == 0
    go.set()
    wait_for_rows(poller)
    assert poller.read(10) is None
    poller.close()


@pytest.mark.parametrize("make", [numbers, numbers_of_a_loop])
def test_a_full_queue_holds_the_client_back_until_rows_are_read(make):
    poller = Poller(SCHEMA, make(50, [0]), queue_bytes=3 * batch_of(0, 1).nbytes)
    wait_until(lambda: len(poller._queue) == 3)
    time.sleep(0.02)

    assert len(poller._queue) == 3
    assert poller.read(2).batch == batch_of(0, 1)
    wait_until(lambda: len(poller._queue) == 3)
    rows, _ = read_all(poller)
    assert rows == list(range(2, 100))
    poller.close()


def test_a_batch_larger_than_the_queue_or_than_what_is_asked_comes_whole():
    poller = Poller(SCHEMA, lambda one: one.put(batch_of(*range(100)), 5), queue_bytes=8)
    wait_for_rows(poller)

    chunk = poller.read(10)

    assert (chunk.scanned, chunk.position) == (100, 5)
    poller.close()


@pytest.mark.parametrize("is_async", [False, True])
def test_an_error_comes_after_the_rows_before_it_with_the_place_where_it_was_raised(is_async):
    def break_down():
        raise ValueError("connection reset")

    def produce(poller):
        poller.put(batch_of(1), "a")
        break_down()

    async def produce_in_a_loop(poller):
        await poller.put_async(batch_of(1), "a")
        break_down()

    poller = Poller(SCHEMA, produce_in_a_loop if is_async else produce)
    wait_until(lambda: poller._has_ended)

    assert poller.read(10).position == "a"
    assert is_readable(poller.wake_descriptor())
    with pytest.raises(ValueError, match="connection reset") as caught:
        poller.read(10)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "break_down" in names
    poller.close()


def test_a_batch_of_another_schema_is_an_error():
    poller = Poller(SCHEMA, lambda one: one.put(pa.record_batch({"y": [1]}), 1))
    wait_until(lambda: poller._has_ended)

    with pytest.raises(ConnectorError, match="another schema"):
        poller.read(10)
    poller.close()


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_closing_ends_the_thread_and_gives_the_descriptors_back(is_full, is_async):
    seen, begun = [], threading.Event()

    def produce(poller):
        try:
            begun.set()
            while is_full or not poller.is_closed:
                if is_full:
                    poller.put(batch_of(1), 1)
                time.sleep(0.001)
        except Closed:
            seen.append("closed")
            raise

    async def produce_in_a_loop(poller):
        try:
            begun.set()
            while True:
                if is_full:
                    await poller.put_async(batch_of(1), 1)
                await asyncio.sleep(0.001)
        except (Closed, asyncio.CancelledError):
            seen.append("closed")
            raise

    poller = Poller(SCHEMA, produce_in_a_loop if is_async else produce, queue_bytes=1)
    assert begun.wait(WAIT_S)
    if is_full:
        wait_until(lambda: poller._queue)
    descriptor = poller.wake_descriptor()

    poller.close()
    poller.close()

    assert not poller._thread.is_alive()
    assert poller.wake_descriptor() is None
    assert seen == (["closed"] if is_full or is_async else [])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


class Feed:
    """A live source over a poller: numbers from a position on."""

    schema = pa.schema({"t": pa.int64()})
    bounded = False

    def list_splits(self):
        return [Split(f"lane{i}") for i in range(3)]

    def open(self, split, position=0):
        def produce(poller):
            for i in range(position, 300, 10):
                values = pa.array(range(i, i + 10), pa.int64())
                poller.put(pa.record_batch({"t": values}), i + 10)
                time.sleep(0.0005)

        return Poller(self.schema, produce, queue_bytes=400)


def test_a_job_reads_pollers_to_their_ends():
    job = hs.Job("polled")
    stream = job.source(Feed(), event_time="t", event_time_unit="ms")
    totals = stream.window_all(hs.tumbling("100ms")).agg(n=hs.count()).collect()

    job.run(progress=False)

    assert totals.table["n"].to_pylist() == [300, 300, 300]
