"""The worker's threads in a test's own process, which would work on, and print, during later tests."""

from collections.abc import Iterator

import pytest

from preheat.fleet.notice import Notice
from preheat.fleet.queue import Queue


@pytest.fixture(autouse=True)
def quiet_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After a test its queues renew nothing, not even what a late poll brings; its notices have warned."""
    made: list[object] = []
    for kind in (Queue, Notice):
        monkeypatch.setattr(kind, "__new__", noting(made))
    yield
    for each in made:
        if isinstance(each, Queue):
            each._hide = lambda *_: []  # type: ignore[method-assign]
        elif isinstance(each, Notice):
            each._warned = True


def noting(made: list[object]) -> object:
    """A __new__ that notes each object."""

    def new(kind: type, *_: object, **__: object) -> object:
        made.append(object.__new__(kind))
        return made[-1]

    return new
