"""Config: YAML -> Engine, the only composition root."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from authz import document
from authz.audit.writer import FileSink
from authz.config.authn import read_authn
from authz.decision import authorizer_for
from authz.engine import Engine, Policy
from authz.errors import AuditError, ConfigError
from authz.policy.load import load_bundle


def load_config(path: str | PathLike[str], *, writer: str = "") -> Engine:
    """Make the engine that the file ``path`` describes.

    File names in it are taken relative to its own folder. Everything that it names is read now, strictly: the server
    that starts has a whole configuration, whole keys and a whole policy, or does not start.

    Args:
        path: a YAML file with the sections ``policy``, ``authn`` and ``audit``; see docs/for-service-engineers.md. Its
            section ``serve`` is :func:`authz.config.serve.load_serve`'s.
        writer: which of several processes with the same configuration this is: the audit log ``audit.jsonl`` becomes
            ``audit.<writer>.jsonl``, because one process writes to a file.

    Raises:
        ConfigError: the file, with the line and what to write instead.
        PolicyError: the policy bundle, every problem with its line.
        KeyFileError: a file of keys or certificates.
    """
    top = document.load(Path(path), ConfigError)
    policy = top.section("policy")
    bundle = policy.file("bundle")
    policy.close()
    if not bundle.is_dir():
        raise policy.refuse("bundle", f"there is no folder {bundle}", "name the folder of a policy bundle")
    authn = top.section("authn")
    audit = top.section("audit")
    log = audit.file("file")
    if writer:
        log = log.with_name(f"{log.stem}.{writer}{log.suffix}")
    audit.close()
    top.section("serve", None)
    top.close()
    authentication, mapper = read_authn(authn)
    revision = load_bundle(bundle)
    in_force = Policy(revision, authorizer_for(revision))
    try:
        sink = FileSink(log)
    except AuditError as exc:
        raise audit.refuse("file", str(exc), "name a file that this process can write, and no other writes") from None
    return Engine(authentication, mapper, in_force, sink)
