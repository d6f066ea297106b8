"""What every test has: all of authz is loaded before the first one runs."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil

import authz

_NOT_HERE = {"authz.__main__", "authz.testing.fixtures"}


def pytest_collection_finish() -> None:
    """Load the rooms that load with first use.

    Hypothesis draws on the constants of the project's modules: a room that is loaded while a test runs would change
    what is drawn from one run of an example to its next, which Hypothesis takes for a flaky test.
    """
    for module in pkgutil.walk_packages(authz.__path__, "authz."):
        if module.name not in _NOT_HERE:
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
