"""Order, bounded work in flight, and errors of the workers."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

import pytest

from covpool.pipeline.cores import usable_cores
from covpool.pipeline.process_pool import WorkerDied, ordered_map


def slow_when_even(number: int) -> tuple[int, int]:
    time.sleep(0.002 * (number % 2 == 0))
    return number * number, os.getpid()


def fails_at_five(number: int) -> int:
    if number == 5:
        raise KeyError("five")
    return number


def dies(number: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_from_so_many_processes(workers):
    results = list(ordered_map(slow_when_even, range(60), workers))
    assert [square for square, _ in results] == [number * number for number in range(60)]
    processes = {process for _, process in results}
    assert len(processes) <= workers and (processes == {os.getpid()}) == (workers == 1)


def test_draws_items_only_a_little_ahead():
    drawn = 0

    def items():
        nonlocal drawn
        for number in range(200):
            drawn += 1
            yield number

    ahead = [drawn - taken for taken, _ in enumerate(ordered_map(slow_when_even, items(), 2), 1)]
    assert max(ahead) <= 12


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_the_map(workers):
    seen = []
    with pytest.raises(KeyError, match="five"):
        for result in ordered_map(fails_at_five, range(1000), workers):
            seen.append(result)
    assert seen == [0, 1, 2, 3, 4]


def test_a_worker_that_dies_is_told():
    with pytest.raises(WorkerDied, match="a worker process died.*run again on fewer cores"):
        list(ordered_map(dies, range(4), 2))


def test_an_abandoned_map_ends_its_workers():
    results = ordered_map(slow_when_even, iter(range(10**6)), 2)
    process = next(results)[1]
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_an_abandoned_map_tells_its_workers_before_it_waits(tmp_path):
    stop = tmp_path / "stop"
    results = ordered_map(functools.partial(waits_for, stop), iter(range(100)), 2, stop.touch)
    assert next(results) == 0
    # Item 1 on waits for the file: without being told this would never end.
    results.close()


def waits_for(path: Path, number: int) -> int:
    while number and not path.exists():
        time.sleep(0.01)
    return number


def test_usable_cores_respects_the_affinity():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system has no affinity")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
