"""Telemetry: metrics and span attributes by OpenTelemetry. The only file that imports it, when the configuration asks.

What is counted here is plain numbers, which OpenTelemetry collects when somebody looks: a decision costs a look-up, a
lock and, for the duration, one recording. Where the numbers go is for the application to say, by the providers that it
sets.

Labels are bounded. A method is named only if the catalogue in force knows it, so that nobody can make up series.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from authz.call import Call
from authz.decision.base import Decision
from authz.engine import Engine
from authz.forked import renew_in_child

NAME: Final = "authz"
UNKNOWN: Final = "unknown"
"""The method label of what the catalogue does not know."""
OTHER: Final = "other"
"""The method label of whatever would be one series too many."""
SERIES_LIMIT: Final = 20_000

_BOUNDARIES: Final = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 1e-1, 1.0)
_NANO: Final = 1e-9


class Telemetry:
    """Observes the decisions of one engine.

    Args:
        durations: record how long each decision took.
        spans: set attributes on the current span, if there is one that is recorded.
        provider: where the metrics go; the application's own by default.
    """

    def __init__(self, *, durations: bool = True, spans: bool = True, provider: MeterProvider | None = None) -> None:
        self._spans = spans
        self.renew_locks()
        renew_in_child(self)
        self._engine: Engine | None = None
        self._parts: tuple[object, ...] = ()
        self.decided: Counter[tuple[str, str, str]] = Counter()
        self.differed: Counter[tuple[str, str, str]] = Counter()
        self._instruments = _instruments(provider or metrics.get_meter_provider())
        self._record = self._instruments.duration.record if durations else None

    def watch(self, engine: Engine, *parts: object) -> None:
        """Tell of ``engine``, and of such ``parts`` as have ``caches`` or ``keys``, until the engine is closed."""
        self._engine = engine
        self._parts = parts
        self._instruments.add(self)

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Tell of the engine no more. What was counted remains counted."""
        self._engine = None
        self._parts = ()
        self._instruments.retire(self)

    def observe(self, decision: Decision, call: Call, elapsed_ns: int) -> None:
        """See :class:`authz.engine.Observer`."""
        effect = decision.effect.value
        method = self._label(call.method)
        self._count(self.decided, effect, decision.reason.value, method)
        if decision.shadow is not None:
            self._count(self.differed, effect, decision.shadow.effect.value, method)
        if self._record is not None:
            self._record(elapsed_ns * _NANO, {"decision": effect})
        if self._spans:
            span = trace.get_current_span()
            if span.is_recording():
                span.set_attributes(_attributes(decision))

    def _label(self, method: str) -> str:
        engine = self._engine
        found = None if engine is None else engine.policy.revision.catalogue.find(method)
        return UNKNOWN if found is None else found.method

    def _count(self, counts: Counter[tuple[str, str, str]], one: str, two: str, method: str) -> None:
        key = (one, two, method)
        with self._lock:
            # the methods of all revisions since the start may come together: they must not grow without end
            if key not in counts and len(counts) >= SERIES_LIMIT:
                key = (one, two, OTHER)
            counts[key] += 1

    def counted(self, counts: Counter[tuple[str, str, str]]) -> Mapping[tuple[str, str, str], int]:
        """A copy of ``counts``, which goes on changing."""
        with self._lock:
            return dict(counts)

    def revision(self) -> str | None:
        """The revision in force; None if the engine is closed."""
        engine = self._engine
        return None if engine is None else engine.policy.revision.id

    def gathered(self, name: str) -> Iterator[Any]:
        """What each of the parts has under ``name``."""
        engine = self._engine
        parts = self._parts if engine is None else (*self._parts, engine.policy.authorizer)
        for part in parts:
            found = getattr(part, name, None)
            if found is not None and not callable(found):
                yield found


def _attributes(decision: Decision) -> dict[str, str]:
    """What a span says of a decision: nothing of the caller, who may be a person."""
    attributes = {
        "authz.decision": decision.effect.value,
        "authz.reason": decision.reason.value,
        "authz.audit_id": decision.audit_id,
        "authz.policy_version": decision.revision,
    }
    if decision.rule is not None:
        attributes["authz.rule"] = str(decision.rule)
    if decision.shadow is not None:
        attributes["authz.shadow_decision"] = decision.shadow.effect.value
    return attributes


class _Instruments:
    """The instruments of one provider, which all engines of a process share: a name is to be registered once."""

    def __init__(self, provider: MeterProvider) -> None:
        self.renew_locks()
        renew_in_child(self)
        self._sources: tuple[Telemetry, ...] = ()
        # what was counted by those who are gone: a counter never goes back
        self._decided: Counter[tuple[str, str, str]] = Counter()
        self._differed: Counter[tuple[str, str, str]] = Counter()
        meter = provider.get_meter(NAME)
        self.duration = meter.create_histogram(
            "authz.decision.duration",
            "s",
            "How long it took to decide and to record.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        counters: Sequence[tuple[str, str, Callable[[CallbackOptions], Iterable[Observation]]]] = (
            ("authz.decisions", "Decisions, by what was decided and why.", self._decisions),
            ("authz.shadow.differences", "Decisions that the shadow policy would have made otherwise.", self._shadow),
            ("authz.cache.stored", "Entries that had to be worked out and were then remembered.", self._stored),
            ("authz.keys.fetch_failures", "Fetches of an issuer's keys that failed.", self._failures),
        )
        for name, description, callback in counters:
            meter.create_observable_counter(name, [callback], description=description)
        gauges: Sequence[tuple[str, str, str, Callable[[CallbackOptions], Iterable[Observation]]]] = (
            ("authz.policy.info", "", "1 for the revision in force.", self._policy),
            ("authz.cache.entries", "", "Entries that are remembered.", self._entries),
            ("authz.keys.age", "s", "Time since an issuer's keys were last fetched.", self._ages),
        )
        for name, unit, description, callback in gauges:
            meter.create_observable_gauge(name, [callback], unit, description)

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()

    def add(self, source: Telemetry) -> None:
        """Tell of ``source``, too."""
        with self._lock:
            if source not in self._sources:
                self._sources += (source,)

    def retire(self, source: Telemetry) -> None:
        """Keep what ``source`` has counted, and nothing else of it."""
        with self._lock:
            if source in self._sources:
                self._decided.update(source.counted(source.decided))
                self._differed.update(source.counted(source.differed))
                self._sources = tuple(each for each in self._sources if each is not source)

    def _decisions(self, _: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            total = Counter(self._decided)
            for source in self._sources:
                total.update(source.counted(source.decided))
        for (decision, reason, method), count in total.items():
            yield Observation(count, {"decision": decision, "reason": reason, "method": method})

    def _shadow(self, _: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            total = Counter(self._differed)
            for source in self._sources:
                total.update(source.counted(source.differed))
        for (decision, shadow, method), count in total.items():
            yield Observation(count, {"decision": decision, "shadow_decision": shadow, "method": method})

    def _stored(self, _: CallbackOptions) -> Iterator[Observation]:
        for name, count in self._caches(lambda cache: int(cache.stored)).items():
            yield Observation(count, {"cache": name})

    def _entries(self, _: CallbackOptions) -> Iterator[Observation]:
        for name, count in self._caches(len).items():
            yield Observation(count, {"cache": name})

    def _caches(self, measure: Callable[[Any], int]) -> Counter[str]:
        total: Counter[str] = Counter()
        for source in self._sources:
            for caches in source.gathered("caches"):
                for name, cache in caches.items():
                    total[name] += measure(cache)
        return total

    def _policy(self, _: CallbackOptions) -> Iterator[Observation]:
        for revision in {source.revision() for source in self._sources} - {None}:
            yield Observation(1, {"revision": str(revision)})

    def _ages(self, _: CallbackOptions) -> Iterator[Observation]:
        for status in self._keys():
            if status.age is not None:
                yield Observation(status.age, {"issuer": status.name})

    def _failures(self, _: CallbackOptions) -> Iterator[Observation]:
        for status in self._keys():
            yield Observation(status.failures, {"issuer": status.name})

    def _keys(self) -> Iterator[Any]:
        for source in self._sources:
            for keys in source.gathered("keys"):
                yield from keys


_made: WeakKeyDictionary[MeterProvider, _Instruments] = WeakKeyDictionary()
_making = threading.Lock()


def _in_child() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_in_child)


def _instruments(provider: MeterProvider) -> _Instruments:
    with _making:
        if provider not in _made:
            _made[provider] = _Instruments(provider)
        return _made[provider]
