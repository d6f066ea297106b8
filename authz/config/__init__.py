"""Config: YAML -> Engine, the only composition root."""

from __future__ import annotations

from hashlib import sha256
from os import PathLike
from pathlib import Path

from authz import document
from authz.audit.event import Event, EventName
from authz.config.audit import read_audit
from authz.config.authn import read_authn
from authz.config.enforcement import read_enforcement
from authz.config.failure_limit import read_failure_limit
from authz.config.policy import read_policy
from authz.config.telemetry import read_telemetry
from authz.engine import Engine, policy_loaded
from authz.errors import ConfigError


def load_config(path: str | PathLike[str]) -> Engine:
    """Make the engine that the file ``path`` describes.

    File names in it are taken relative to its own folder. Everything that it names is read now, strictly: the server
    that starts has a whole configuration, whole keys and a whole policy, or does not start.

    Args:
        path: a YAML file with the sections ``policy``, ``authn`` and ``audit``; see docs/for-service-engineers.md.

    Raises:
        ConfigError: the file, with the line and what to write instead.
        PolicyError: the policy bundle, every problem with its line.
        KeyFileError: a file of keys or certificates.
    """
    top = document.load(Path(path), ConfigError)
    policy = top.section("policy")
    authn = top.section("authn")
    failure_limit = read_failure_limit(authn.section("failure_limit", None))
    audit = top.section("audit")
    enforcement = read_enforcement(top.section("enforcement", None))
    telemetry = read_telemetry(top.section("telemetry", None))
    top.section("serve", None)  # which `authz serve` reads
    top.close()
    maker = read_policy(policy)
    authentication, mapper = read_authn(authn)
    in_force = maker.load()
    # last, so that a configuration that is refused leaves no log behind
    sink = read_audit(audit)
    observers = () if telemetry is None else (telemetry,)
    engine = Engine(authentication, mapper, in_force, sink, enforcement, observers, failure_limit)
    if telemetry is not None:
        telemetry.watch(engine, authentication, mapper)
    engine.record(Event(EventName.CONFIG, {"file": str(path), "sha256": sha256(Path(path).read_bytes()).hexdigest()}))
    engine.record(policy_loaded(in_force.revision, shadow=in_force.shadow))
    maker.follow(engine)
    return engine
