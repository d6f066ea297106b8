"""What one decision costs, beside other policy engines, in one run: 100 to 100,000 rules.

The same policy, callers and calls for each (benchmarks/policies.py). Every answer of every engine is compared with
those of an oracle that compares strings. Each engine loads and answers in a process of its own; memory is what loading
added to it. Times are of single calls; of several passes, the one with the lowest median is shown.

For authz: *known* is a call decided before. *New token* is a caller not seen before, with roles, namespace and method
that were. *New roles* is a caller with a combination of roles never seen before, up to 17 of which the policy grants
something elsewhere; namespace, method and rules were seen. *New, and count* are those of these calls in which the new
roles are granted the method somewhere, so that no answer to other roles can be given again; in *new roles*, that is one
call in three. What was not seen before is made just before it is asked about, as a server does. *First sight* is a new
process that has not seen the caller, the namespace or the method.

*Dictionary* is the floor on this machine, in the same process: for a known call one look-up, for new roles the roles
that count, two look-ups and one entry; it has every answer beforehand, checks nothing, forgets nothing and knows no
reason.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Effect, Verdict
from authz.reason import Reason
from benchmarks.engines import ENGINES, Ours, write_policies
from benchmarks.memory import resident
from benchmarks.policies import METHODS, OTHER_ACCESS, OTHER_ROLES, Oracle, workload
from benchmarks.table import FOLDER, machine, write

SIZES = (100, 1_000, 10_000, 100_000)
PASSES = 5
SECONDS = 5.0
NEEDED = {"authz": "authz", "pycasbin": "casbin", "cedarpy": "cedarpy", "opa": "opa_bindings"}

Asked = Iterable[tuple[Claims, Call]]


def run(*, quick: bool) -> None:
    """Measure, and write the table and the plot."""
    rows, medians = [], {}
    for size in SIZES[: 2 if quick else 4]:
        with tempfile.TemporaryDirectory() as name:
            work = workload(size)
            folder = write_policies(work, Path(name))
            oracle = Oracle(work)
            expected = [oracle.answer(work.claims[who], call) for who, call in work.asked]
            (folder / "expected.json").write_text(json.dumps(expected))
            for engine, module in NEEDED.items():
                if importlib.util.find_spec(module) is None:
                    print(f"   {engine} is not installed, and left out")
                    continue
                for (name, kind), result in _measured(engine, size, folder, quick=quick).items():
                    rows.append([f"{size:,}", name, kind, *result["cells"]])
                    medians[name, kind, size] = result["p50"]
                    print("  ", *rows[-1], sep="  ")
    header = ["rules", "engine", "call", "p50", "p99", "mean", "asked", "wrong", "load", "memory"]
    write("decision", __doc__ or "", header, rows, machine("times of single calls"))
    _plot(medians)


def _measured(engine: str, size: int, folder: Path, *, quick: bool) -> dict[tuple[str, str], Any]:
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(there, engine, size, folder, quick))
    process.start()
    there.close()
    found: dict[tuple[str, str], Any] = here.recv()
    process.join()
    return found


def _child(answers: Connection, engine: str, size: int, folder: Path, quick: bool) -> None:
    times, grown, asker = [], 0, None
    for _ in range(1 if quick else 3):
        asker = None
        gc.collect()
        before, start = resident(), time.perf_counter()
        asker = ENGINES[engine](folder)
        times.append(time.perf_counter() - start)
        gc.collect()
        grown = grown or resident() - before
    assert asker is not None
    cells = [f"{min(times):.3f} s", f"{grown / 2**20:.1f} MB"]
    work = workload(size)
    asked = [(work.claims[who], call) for who, call in work.asked]
    expected = json.loads((folder / "expected.json").read_text())
    results = {}
    if isinstance(asker, Ours):
        kinds: dict[str, Callable[[int], Asked]] = {
            "first sight": lambda _: asked,
            "new token": lambda _: ((_again(claims), call) for claims, call in asked),
            "new roles": lambda turn: (
                (_again(claims, turn * len(asked) + i), call) for i, (claims, call) in enumerate(asked)
            ),
            "new, and count": lambda turn: (
                (_again(claims, (PASSES + turn) * len(asked) + i), call)
                for i, (claims, call) in enumerate(asked)
                if METHODS[call.method] == OTHER_ACCESS
            ),
            "known": lambda _: asked,
        }
        floor = _Dictionary(asked, expected)
        counting = [
            right for (_, call), right in zip(asked, expected, strict=True) if METHODS[call.method] == OTHER_ACCESS
        ]
        for kind, calls in kinds.items():
            rights = counting if kind == "new, and count" else expected
            passes = range(1 if quick else PASSES)
            best: list[float] = []
            wrong = 0
            for turn in passes:
                if kind == "first sight":
                    asker = Ours(folder)
                if kind == "known":
                    _timed(asker.authorizer.authorize, asked)
                best, wrong = _pass(asker.authorizer.authorize, calls(turn), rights, best, wrong)
            results["authz", kind] = _result(best, len(best), wrong, cells)
            if kind in ("known", "new roles"):
                best, wrong = [], 0
                for turn in passes:
                    best, wrong = _pass(floor.authorize, calls(turn), rights, best, wrong)
                results["dictionary", kind] = _result(best, len(best), wrong, ["", ""])
    else:
        asker.ask(*asked[0])
        spent, given, deadline = [], [], time.perf_counter() + (SECONDS / 10 if quick else SECONDS)
        for claims, call in asked:
            start = time.perf_counter()
            given.append(asker.ask(claims, call))
            spent.append(time.perf_counter() - start)
            if time.perf_counter() > deadline:
                break
        wrong = sum(answer != right for answer, right in zip(given, expected, strict=False))
        results[engine, "any"] = _result(spent, len(spent), wrong, cells)
    answers.send(results)
    answers.close()


def _pass(
    ask: Callable[[Claims, Call], Verdict], asked: Asked, rights: Sequence[str], best: list[float], wrong: int
) -> tuple[list[float], int]:
    """One more pass: the times of the best one so far, and how many answers were wrong so far."""
    gc.collect()
    gc.freeze()
    spent, given = _timed(ask, asked)
    wrong += sum(verdict.effect.value != right for verdict, right in zip(given, rights, strict=True))
    return (spent if not best or statistics.median(spent) < statistics.median(best) else best), wrong


class _Dictionary:
    """The floor: an answer for each question beforehand, found by the question, or by the roles that count."""

    def __init__(self, asked: Sequence[tuple[Claims, Call]], expected: Sequence[str]) -> None:
        self._counting = frozenset(
            role for claims, _ in asked for roles in (claims.system, *claims.namespaces.values()) for role in roles
        )
        self._answers: dict[tuple[str, str | None, str, frozenset[str]], Verdict] = {}
        self._known: dict[tuple[Claims, tuple[str | None, ...], str], Verdict] = {}
        for (claims, call), right in zip(asked, expected, strict=True):
            self._answers[self._reduced(claims, call)] = Verdict(Effect(right), Reason.NO_RULE)
        for claims, call in asked:
            self.authorize(claims, call)

    def _reduced(self, claims: Claims, call: Call) -> tuple[str, str | None, str, frozenset[str]]:
        (where,) = call.namespaces
        roles = self._counting & claims.system
        if where is not None and (here := claims.namespaces.get(where)):
            roles = roles | here
        return claims.principal.subject, where, call.method, roles

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """See :class:`authz.decision.base.Authorizer`."""
        question = (claims, call.namespaces, call.method)
        answer = self._known.get(question)
        if answer is None:
            answer = self._known[question] = self._answers[self._reduced(claims, call)]
        return answer


def _again(claims: Claims, combination: int = 0) -> Claims:
    """The same caller in another object; with a ``combination`` of roles that change no answer beside its own."""
    more = [role for bit, role in enumerate(OTHER_ROLES) if combination >> bit & 1]
    return Claims(claims.principal, claims.system.union(more), claims.namespaces)


def _timed(ask: Callable[[Claims, Call], Any], asked: Asked) -> tuple[list[float], list[Any]]:
    clock = time.perf_counter
    spent, given = [], []
    for claims, call in asked:
        start = clock()
        answer = ask(claims, call)
        spent.append(clock() - start)
        given.append(answer)
    return spent, given


def _result(spent: Sequence[float], asked: int, wrong: int, cells: list[str]) -> dict[str, Any]:
    ordered = sorted(spent)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    times = [_text(p50), _text(p99), _text(statistics.fmean(spent))]
    return {"p50": p50, "cells": [*times, f"{asked:,}", str(wrong), *cells]}


def _text(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _plot(medians: dict[tuple[str, str, int], float]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no plot")
        return
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "decision"
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for engine, kind in dict.fromkeys((engine, kind) for engine, kind, _ in medians):
        points = sorted(
            (size, value * 1e6) for (name, of, size), value in medians.items() if (name, of) == (engine, kind)
        )
        axes.plot(*zip(*points, strict=True), marker="o", label=engine if kind == "any" else f"{engine}, {kind}")
    axes.set(xscale="log", yscale="log", xlabel="rules", ylabel="median of one decision, microseconds")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(FOLDER / "decision.svg", metadata={"Date": None})
    pyplot.close(figure)
