"""Threads that work in the background or share work; none of them keeps the process from ending."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread


def start(work: Callable[[], None]) -> bool:
    """Run `work` in a thread that ends with the process; False if the system has no thread left."""
    try:
        Thread(target=work, daemon=True).start()
    except RuntimeError:
        return False
    return True


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in another thread during the block, and wait for it; skipped if no thread can be started."""
    thread = Thread(target=work, daemon=True)
    with suppress(RuntimeError):
        thread.start()
    try:
        yield
    finally:
        if thread.ident is not None:
            thread.join()


def share(chunks: range, work: Callable[[Iterator[int]], None], threads: int) -> None:
    """Run `work` in several threads, including this one; all take chunks from the same iterator.

    Returns when all have ended. An error in one of them, or Ctrl-C in this one, stops all and is raised.
    """
    left = iter(chunks)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work(left)
        except BaseException as error:
            if not errors:
                errors.append(error)
        for _ in left:  # after an error, leave nothing for the others
            pass

    helpers = [Thread(target=run, daemon=True) for _ in range(min(threads, len(chunks)) - 1)]
    with suppress(RuntimeError):  # the system has no thread left: fewer will do
        for helper in helpers:
            helper.start()
    run()
    for helper in helpers:
        if helper.ident is not None:
            helper.join()
    if errors:
        raise errors.pop()  # pop, or list, error and frame form a cycle that keeps what `work` holds
