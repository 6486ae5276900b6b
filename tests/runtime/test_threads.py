"""threads.py: work is done once, and ends when it fails."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from preheat.threads import share


def test_work_is_shared() -> None:
    """Every chunk once; an error, or Ctrl-C, ends all threads."""
    seen: list[int] = []
    share(range(100), seen.extend, 4)
    assert sorted(seen) == list(range(100))

    for error in (ValueError, KeyboardInterrupt):
        seen.clear()

        def fail(chunks: Iterator[int], error: type[BaseException] = error) -> None:
            for i in chunks:
                seen.append(i)
                if i == 5:
                    raise error
                time.sleep(0.01)  # long enough for the one that fails to end the others

        before = set(threading.enumerate())
        with suppress(error):
            share(range(10_000), fail, 4)
            pytest.fail("no error")
        assert set(threading.enumerate()) <= before
        assert len(seen) < 100
