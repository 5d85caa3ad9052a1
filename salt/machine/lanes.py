"""Batches computed side by side by a few threads of this process."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_lanes(work: Callable[[Item], Result], items: Iterable[Item], n_lanes: int, waiting: int = 2) -> Iterator[Result]:
    """Yield `work(item)` of each item, in order; the lanes share the threads of the caller equally.

    At most `waiting` items of each lane are in work or done.

    On CPUs two lanes of one thread do more than one of two threads: small networks leave a second thread idle. The
    bytes of a result do not depend on the number of lanes, if each has one thread.
    """
    n_threads = torch.get_num_threads()
    share = max(n_threads // n_lanes, 1)
    pool = ThreadPoolExecutor(n_lanes, "lane", lambda: torch.set_num_threads(share))
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > waiting * n_lanes:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)  # of threads that start later
