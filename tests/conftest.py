"""How `make test` shares the tests out to processes that run side by side (pytest-xdist, by group).

What is started once for a folder or a file stays in one process. The groups are begun in the order of the
command line, so the longest come first.
"""

import signal

import pytest

# A shell's background job ignores it and hands that on: what a test interrupts would run on for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

ONE_PROCESS = {"ami", "image"}  # a cloud, a booted image: one for all tests of the folder
ONE_EACH = {"test_molecule.py"}  # every scenario makes a container of its own


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group."""
    for item in items:
        if item.path.parent.name in ONE_PROCESS:
            group = item.path.parent.name
        elif item.path.name in ONE_EACH:
            group = item.name
        else:
            group = item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
