"""Case: one call by one caller, and what the policy must say of it; a bundle's ``tests.yaml`` holds tables of them.

    callers:                                        # who asks
      writer: {system: [writer]}                    # roles that hold everywhere
      shop-reader: {namespaces: {shop: [reader]}}   # roles that hold in one namespace
      mallory: {user: staff:mallory, system: [admin]}
      stranger: {}                                  # proven, without a role
      anonymous: {anonymous: true}                  # showed nothing
    tests:
      what may be done in the shop:
        namespaces: [shop]                          # left out: "@cluster", calls that touch no namespace
        methods: [read, write]                      # left out: every method
        expect:
          writer: allow                             # allow, deny or no_opinion, for every method
          shop-reader: {allow: [read]}              # no_opinion for every method that is not in a list
          mallory: {deny: [read, write]}

``now: "2026-12-31T18:00:00Z"`` beside ``callers`` fixes the clock, for rules that end.

A method is written as its access (``read``: every method with that access), as ``/package.Service/Method``, as its last
name alone if no other service has it, as a beginning and a star, as an API group (``api:work``), or as ``*``.
In a namespace, only methods of scope namespace are asked; in ``@cluster``, every method, as a call that names none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz import document
from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.call import NAMESPACE_RULE, Access, Call, Scope, is_namespace
from authz.claims.base import ROLE_RULE, Claims, is_role
from authz.decision.base import Effect
from authz.document import Section, did_you_mean
from authz.errors import FileError, Place, PolicyError, Problem
from authz.policy.ending import NEVER, read_end
from authz.policy.revision import NOWHERE, Revision

_EVERY: Final = "*"
_GROUP: Final = "api:"


@dataclass(frozen=True, slots=True)
class Case:
    """One call by one caller, and what the policy must say of it.

    Attributes:
        test: name of the test that it belongs to.
        caller: name of the caller in the file.
        claims: the caller's roles.
        call: the call, in one namespace or in none.
        expected: what the policy must say.
        place: where the expectation is written.
    """

    test: str
    caller: str
    claims: Claims
    call: Call
    expected: Effect
    place: Place

    @property
    def namespace(self) -> str:
        """The namespace, or ``@cluster``."""
        return self.call.namespaces[0] or NOWHERE


def read_cases(path: Path, revision: Revision) -> tuple[Case, ...]:
    """Read the cases in the file ``path``, for the methods and API groups of ``revision``.

    Raises:
        PolicyError: everything in the file that cannot be used, with its place and what to write instead.
    """
    top = document.load(path, PolicyError)
    named, tests = top.section("callers"), top.section("tests")
    top.close(("now",) if _now(top) is None else ())
    callers = {name: _claims(name, named.section(name)) for name in named}
    methods = _Methods(revision)
    cases: list[Case] = []
    problems: list[Problem] = []
    for name in tests:
        try:
            cases += _cases(name, tests.section(name), callers, methods)
        except PolicyError as exc:
            problems += exc.problems
    if problems:
        raise PolicyError(problems)
    if not cases:
        raise top.refuse("tests", "`tests` asks nothing", "add a test, or remove the file")
    return tuple(cases)


def read_now(path: Path) -> float | None:
    """The moment that the tests in the file ``path`` are asked at, in seconds since the epoch; None: now.

    Raises:
        PolicyError: the file or the moment cannot be used.
    """
    return _now(document.load(path, PolicyError))


def _now(top: Section) -> float | None:
    text = top.text("now", None)
    if text is None:
        return None
    try:
        if text == NEVER:
            raise ValueError(text)
        return read_end(text)
    except ValueError:
        raise top.refuse("now", f"`{text}` is no moment", 'write it in UTC: now: "2026-12-31T18:00:00Z"') from None


def read_callers(path: Path) -> dict[str, Claims]:
    """The callers in the file ``path``, by name.

    Raises:
        PolicyError: the file or a caller cannot be used.
    """
    named = document.load(path, PolicyError).section("callers")
    return {name: _claims(name, named.section(name)) for name in named}


def _claims(name: str, caller: Section) -> Claims:
    if caller.boolean("anonymous", False):
        caller.close(("user", "system", "namespaces"))
        return Claims(ANONYMOUS)
    # without a user of its own, a caller is one that no rule can name
    principal = Principal(PrincipalKind.TOKEN, "test", caller.text("user", f"@{name}"))
    system = _roles(caller, "system", caller.texts("system", ()))
    namespaces: dict[str, frozenset[str]] = {}
    if "namespaces" in caller:
        by_name = caller.section("namespaces")
        for namespace in by_name:
            if not is_namespace(namespace):
                raise by_name.refuse(namespace, f"`{namespace}` is not a namespace", f"a namespace is {NAMESPACE_RULE}")
            namespaces[namespace] = _roles(by_name, namespace, by_name.texts(namespace))
    caller.close()
    return Claims(principal, system, namespaces)


def _roles(section: Section, key: str, roles: Iterable[str]) -> frozenset[str]:
    for role in roles:
        if not is_role(role):
            raise section.refuse(key, f"`{role}` is not a role that a caller can be given", f"a role is {ROLE_RULE}")
    return frozenset(roles)


def _cases(name: str, test: Section, callers: dict[str, Claims], methods: _Methods) -> Iterator[Case]:
    namespaces = test.texts("namespaces", (NOWHERE,))
    for namespace in namespaces:
        if namespace != NOWHERE and not is_namespace(namespace):
            remedy = f'write a namespace ({NAMESPACE_RULE}), or "{NOWHERE}"'
            raise test.refuse("namespaces", f"`{namespace}` is not a namespace", remedy)
    asked = methods.select(test, "methods", namespaces, (_EVERY,))
    expect = test.section("expect")
    test.close()
    for caller in expect:
        if caller not in callers:
            raise expect.refuse(caller, f"no caller is named `{caller}`", did_you_mean(caller, callers))
        expected = _expected(expect, caller, asked, namespaces, methods)
        for namespace in namespaces:
            for method in methods.within(asked, namespace):
                call = Call(method, (None if namespace == NOWHERE else namespace,))
                yield Case(name, caller, callers[caller], call, expected[method], expect.place_of(caller))


def _expected(
    expect: Section, caller: str, asked: tuple[str, ...], namespaces: tuple[str, ...], methods: _Methods
) -> dict[str, Effect]:
    if not expect.is_section(caller):
        return dict.fromkeys(asked, Effect(expect.choice(caller, [effect.value for effect in Effect])))
    found = dict.fromkeys(asked, Effect.NO_OPINION)
    lists = expect.section(caller)
    for effect in (Effect.ALLOW, Effect.DENY):
        for method in methods.select(lists, effect.value, namespaces, (), asked):
            if found[method] is not Effect.NO_OPINION:
                raise lists.refuse(effect.value, f"`{method}` is listed in `allow` too", "keep one of them")
            found[method] = effect
    lists.close()
    return found


class _Methods:
    """The methods of a bundle, by the words that a test may write for them."""

    def __init__(self, revision: Revision) -> None:
        self._catalogue = revision.catalogue
        # an entry for a whole service stands for a method that has no entry of its own
        self._all = [name.removesuffix("*") + "AnyOther" * name.endswith("*") for name in revision.catalogue.methods]
        self._groups: dict[str, list[str]] = {}
        for line in revision.lines:
            if line.ptype != "p" and line.fields[1].startswith(_GROUP):
                self._groups.setdefault(line.fields[1], []).append(line.fields[0])

    def select(
        self,
        section: Section,
        key: str,
        namespaces: tuple[str, ...],
        default: tuple[str, ...],
        among: Collection[str] | None = None,
    ) -> tuple[str, ...]:
        """The methods, of ``among``, that the words in ``key`` stand for, each once; every word must stand for one."""
        found: dict[str, None] = {}
        for word in section.texts(key, default):
            try:
                methods = self._find(word)
            except _Unknown as exc:
                raise section.refuse(key, *exc.args) from None
            askable = [method for namespace in namespaces for method in self.within(methods, namespace)]
            if not askable:
                raise self._nothing(section, key, word, methods)
            kept = [method for method in methods if among is None or method in among]
            if not kept:
                raise section.refuse(key, f"`{word}` is not among the `methods` of this test", "add it there")
            found.update(dict.fromkeys(kept))
        return tuple(found)

    def within(self, methods: Iterable[str], namespace: str) -> Iterator[str]:
        """Those of ``methods`` that can be asked in ``namespace``."""
        for method in methods:
            entry = self._catalogue.find(method)
            if entry is not None and (namespace == NOWHERE or entry.scope is Scope.NAMESPACE):
                yield method

    def _find(self, word: str) -> tuple[str, ...]:
        if word in tuple(Access):
            found = [name for name in self._all if (entry := self._catalogue.find(name)) and entry.access == word]
        elif word.startswith(_GROUP):
            if word not in self._groups:
                raise _Unknown(f"no line puts a method into the API group `{word}`", did_you_mean(word, self._groups))
            found = [method for member in self._groups[word] for method in self._find(member)]
        elif word.endswith("*"):
            found = [name for name in self._all if name.startswith(word[:-1])]
            if not found:
                raise _Unknown(f"`{word}` matches no method of the catalogue", did_you_mean(word, self._all))
        elif word.startswith("/"):
            if self._catalogue.find(word) is None:
                raise _Unknown(f"the catalogue knows no method `{word}`", did_you_mean(word, self._all))
            found = [word]
        else:
            found = [name for name in self._all if name.rpartition("/")[2] == word]
            if len(found) != 1:
                short = [*Access, *(name.rpartition("/")[2] for name in self._all)]
                several = f"write one of: {', '.join(found)}" if found else did_you_mean(word, short)
                raise _Unknown(f"`{word}` is {'several methods' if found else 'no method'} of the catalogue", several)
        return tuple(found)

    def _nothing(self, section: Section, key: str, word: str, methods: tuple[str, ...]) -> FileError:
        if not methods:
            return section.refuse(key, f"no method of the catalogue has the access `{word}`", "leave it out")
        remedy = f'write `namespaces: ["{NOWHERE}"]` in a test of its own'
        return section.refuse(key, f"`{word}` touches no namespace", remedy)


class _Unknown(Exception):  # noqa: N818 - it is an answer, and never leaves this file
    """A word that stands for no method: what is wrong, and what to write instead."""
