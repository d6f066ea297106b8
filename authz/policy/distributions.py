"""Distributions: which Casbin is installed.

The distributions ``casbin`` (given up at 1.43) and ``pycasbin`` both install a folder ``casbin``. Whichever came last
has overwritten the other's files, and some adapters pull the old one in.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def refuse_two_casbins() -> None:
    """
    Raises:
        ImportError: both distributions are installed; the text has the command that repairs it.
    """
    try:
        old = version("casbin")
    except PackageNotFoundError:
        return
    try:
        new = version("pycasbin")
    except PackageNotFoundError:
        new = "2.8"
    raise ImportError(
        f"the distributions casbin {old} and pycasbin {new} write the same folder, so nobody knows which of them "
        f"decides; run: pip uninstall --yes casbin pycasbin && pip install pycasbin=={new}"
    )
