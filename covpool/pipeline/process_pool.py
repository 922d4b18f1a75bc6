"""Maps a function over many items with all cores, in order and in bounded memory."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items in progress per worker. More items keep the workers busy while results are read, but need more memory.
_AHEAD = 4


class WorkerDied(RuntimeError):
    """A worker process ended during its work. The usual cause is that the system killed it because memory ran out."""


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    when_abandoned: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Apply a function to each item in several processes, and yield the results in the order of the items.

    Only a few items per worker are in progress at once, and items are read only when they are needed. The first error
    ends the map. The workers always finish the items that they have started.

    Args:
        function: The function. It must be picklable if there is more than one worker.
        items: The items.
        workers: The number of processes. With one worker, everything runs in this process.
        when_abandoned: Called if the map ends early, before it waits for the items in progress. It may signal the
            workers to finish sooner.

    Yields:
        `function(item)` for each item.

    Raises:
        WorkerDied: A worker process ended during its work.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # A fork may deadlock if libraries have started threads, so each worker is a new process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from in_order(lambda item: pool.submit(function, item), items, _AHEAD * workers)
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a worker process died (out of memory, or killed): run again on fewer cores, e.g. with "
                "`taskset -c 0,1`; what the stage keeps of finished work is used"
            ) from error
        except BaseException:
            if when_abandoned is not None:
                when_abandoned()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_order(submit: Callable, items: Iterable[Item], ahead: int) -> Iterator:
    """Submit items and yield the results of their futures in the order of the items.

    Args:
        submit: Called with an item; returns a `concurrent.futures.Future`.
        items: The items.
        ahead: The number of items that are in progress at once.

    Yields:
        The result of each future.
    """
    items = iter(items)
    pending = deque(map(submit, itertools.islice(items, ahead)))
    while pending:
        result = pending.popleft().result()
        pending.extend(map(submit, itertools.islice(items, 1)))
        yield result


def _start_worker() -> None:
    # Ctrl-C reaches every process of the terminal. Only the parent handles it, and then ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed. Otherwise it would wait for work without end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
