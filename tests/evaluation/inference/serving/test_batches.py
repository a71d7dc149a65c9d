"""Requests are gathered while the network is busy, and each gets its own result."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from pmtrain.evaluation.inference.serving.batches import Batches, Overloaded, Worker, batch_sizes


def test_what_waits_is_computed_together_and_comes_back_in_order():
    sizes, started, go = [], threading.Event(), threading.Event()

    def run(images):
        sizes.append(len(images))
        started.set()
        go.wait(10)
        return [2 * image[0] for image in images]

    async def ask(batches):
        first = asyncio.create_task(batches.result(np.array([0.0])))
        await asyncio.to_thread(started.wait, 10)
        rest = [asyncio.create_task(batches.result(np.array([float(number)]))) for number in range(1, 7)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(first, *rest)

    with contextlib.closing(Batches([Worker(run)], most=4, waiting=100, prepare=np.asarray)) as batches:
        assert asyncio.run(ask(batches)) == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [1, 4, 2]


@pytest.mark.parametrize("most, sizes", [(1, [1]), (2, [2, 1]), (6, [6, 4, 2, 1]), (16, [16, 8, 4, 2, 1])])
def test_batches_have_few_sizes(most, sizes):
    assert batch_sizes(most) == sizes


def test_a_failure_reaches_all_of_its_batch_and_no_other():
    def run(images):
        if np.max(images) > 1:
            raise ValueError("too bright")
        return [image[0] for image in images]

    async def ask(batches):
        bad = await asyncio.gather(batches.result(np.array([2.0])), return_exceptions=True)
        return bad, await batches.result(np.array([0.5]))

    with contextlib.closing(Batches([Worker(run)], most=4, waiting=100, prepare=np.asarray)) as batches:
        (error,), good = asyncio.run(ask(batches))
    assert isinstance(error, ValueError)
    assert good == 0.5


def test_an_image_that_cant_be_prepared_fails_alone():
    def prepare(given):
        if given == "bad":
            raise ValueError("not an image")
        return float(given)

    async def ask(batches):
        return await asyncio.gather(*map(batches.result, ["1", "bad", "3"]), return_exceptions=True)

    batches = Batches([Worker(lambda images: [-image for image in images])], most=4, waiting=9, prepare=prepare)
    with contextlib.closing(batches):
        first, bad, third = asyncio.run(ask(batches))
    assert (first, third) == (-1.0, -3.0) and str(bad) == "not an image"


def test_too_many_are_refused_and_a_closed_one_takes_none():
    started, go = threading.Event(), threading.Event()

    def run(images):
        started.set()
        go.wait(10)
        return [image[0] for image in images]

    async def ask(batches):
        first = asyncio.create_task(batches.result(np.zeros(1)))
        await asyncio.to_thread(started.wait, 10)
        second = asyncio.create_task(batches.result(np.ones(1)))
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await batches.result(np.zeros(1))
        go.set()
        assert await asyncio.gather(first, second) == [0, 1]

    batches = Batches([Worker(run)], most=1, waiting=1, prepare=np.asarray)
    asyncio.run(ask(batches))
    batches.close()
    with pytest.raises(Overloaded):
        asyncio.run(batches.result(np.zeros(1)))


def test_two_networks_compute_side_by_side():
    together, passed = threading.Barrier(2, timeout=10), threading.Event()  # passed if both are under way at once

    def of(name):
        def run(images):
            if not passed.is_set():
                together.wait()
                passed.set()
            return [(name, image) for image in images]

        return Worker(run)

    async def ask(batches):
        return await asyncio.gather(*(batches.result(number) for number in range(4)))

    with contextlib.closing(Batches([of("a"), of("b")], most=2, waiting=100, prepare=np.asarray)) as batches:
        found = asyncio.run(ask(batches))
    assert [number for _, number in found] == [0, 1, 2, 3]
    assert {name for name, _ in found} == {"a", "b"}
