"""Stock Casbin, as its users call it: what the authorizers and the index are compared with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import casbin
from casbin import util
from casbin.persist.adapters.string_adapter import StringAdapter

from authz.errors import Problem
from authz.policy.lines import PolicyLines

Setup = Sequence[Sequence[str]]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "keyMatch2": util.key_match2_func,
    "keyMatch3": util.key_match3_func,
    "globMatch": util.glob_match_func,
    "timeMatch": util.time_match_func,
}


@contextmanager
def loggers_kept() -> Iterator[None]:
    """Casbin's constructor silences loggers of the whole process; here they are as before afterwards."""
    before = {
        name: logging.getLogger(name).disabled for name in ("casbin", "casbin.policy", "casbin.enforcer", "casbin.role")
    }
    try:
        yield
    finally:
        for name, disabled in before.items():
            logging.getLogger(name).disabled = disabled


def enforcer(model: str, policy: str, setup: Setup = ()) -> casbin.Enforcer:
    """A stock enforcer of ``model`` and ``policy``, after the calls in ``setup``."""
    with loggers_kept():
        made = casbin.Enforcer(casbin.Enforcer.new_model(text=model), StringAdapter(policy or "#"))
    for name, *arguments in setup:
        getattr(made, name)(*(FUNCTIONS.get(argument, argument) for argument in arguments))
    if setup:
        made.build_role_links()
    logging.getLogger("casbin.enforcer").setLevel(logging.CRITICAL)
    return made


def lines_of(policy: str) -> PolicyLines:
    """The lines of ``policy``."""
    problems: list[Problem] = []
    lines = PolicyLines()
    lines.add(policy, "policy.csv", problems)
    assert not problems, problems
    return lines


def role_functions(stock: casbin.Enforcer) -> dict[str, Callable[..., Any]]:
    """The functions ``g``, ``g2``, ... of a stock enforcer, with whatever patterns and conditions were set up in it."""
    return {
        key: util.generate_conditional_g_function(definition.cond_rm)
        if stock.cond_rm_map
        else util.generate_g_function(definition.rm)
        for key, definition in stock.model["g"].items()
    }
