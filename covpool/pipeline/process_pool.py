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

# Items in flight for each worker: enough that none waits while the results of others are taken, few enough to be small.
_AHEAD = 4


class WorkerDied(RuntimeError):
    """A worker process ended in the middle of its work: mostly killed, as memory ran out."""


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    when_abandoned: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the items' order, computed by `workers` processes.

    `function` must be picklable. At most a few items a worker are under way at once, and items are drawn only as
    they are needed. The first error ends all. With one worker everything runs in this process. Items that workers have
    begun are always finished; `when_abandoned` is called before they are waited for, when the map ends early, and may
    tell them to hurry.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # Forking a process whose libraries have threads may deadlock, so each worker starts afresh.
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
    """Yield the results of the futures that `submit(item)` returns, in the items' order, with `ahead` under way."""
    items = iter(items)
    pending = deque(map(submit, itertools.islice(items, ahead)))
    while pending:
        result = pending.popleft().result()
        pending.extend(map(submit, itertools.islice(items, 1)))
        yield result


def _start_worker() -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone acts on it, and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed: it would otherwise wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
