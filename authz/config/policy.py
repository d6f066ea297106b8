"""The ``policy`` section of the configuration: who decides: a bundle, further authorizers, and a shadow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from authz.config.plugins import AUTHORIZERS, make_plugin
from authz.decision import authorizer_for
from authz.decision.base import Authorizer
from authz.decision.bundle import BundleAuthorizer
from authz.decision.shadow import ShadowAuthorizer
from authz.decision.union import UnionAuthorizer
from authz.document import Section
from authz.engine import Engine, Policy
from authz.errors import KeyFileError, PolicyError
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.policy.signature import Signer, read_signer, verify_signature
from authz.policy.watch import DirectorySource, Watcher

_log = logging.getLogger("authz.shadow")


class PolicyMaker:
    """Makes policies from revisions of the bundle: the first one, and one for each change of its files.

    Args:
        bundle: the folder of the bundle in force.
        shadow: the folder of the bundle that is asked without effect.
        plugins: authorizers that decide together with the bundle.
        ignore_rules: the bundle's rules say nothing, only ``plugins`` do.
        watch: put each change of the bundle's files in force while the engine runs.
        signers: given any, one of them must have signed the bundle, the shadow aside.
    """

    def __init__(
        self,
        bundle: Path,
        shadow: Path | None = None,
        plugins: Sequence[Authorizer] = (),
        *,
        ignore_rules: bool = False,
        signers: Sequence[Signer] = (),
        watch: bool = True,
    ) -> None:
        self.watch = watch
        self.bundle = bundle
        self.shadow = shadow
        self._plugins = tuple(plugins)
        self._ignore_rules = ignore_rules
        self._signers = tuple(signers)
        self._asked: Revision | None = None

    def load(self) -> Policy:
        """Read the bundle, and make a policy of it.

        Raises:
            PolicyError: the bundle, not the shadow, cannot be used.
        """
        return self.make(load_bundle(self.bundle))

    def make(self, revision: Revision, *, in_force: bool = False) -> Policy:
        """The policy of a ``revision`` of the bundle, beside the shadow as it is now, or as it last could be used.

        Args:
            revision: the revision.
            in_force: whether it is in force already. Who signed it has been asked then; by now the signature may be
                that of the next one.

        Raises:
            PolicyError: the revision cannot be evaluated, or is not signed though it must be.
        """
        if self._signers and not in_force:
            verify_signature(revision, self._signers)
        rules = authorizer_for(revision)
        authorizer = self._with_plugins(rules, revision)
        shadowed = self._shadowed(authorizer, slow=bool(_slow(rules)))
        return Policy(revision, authorizer) if shadowed is None else Policy(revision, shadowed, shadowed.revision)

    def _with_plugins(self, rules: Authorizer, revision: Revision) -> Authorizer:
        if not self._plugins:
            return rules
        return UnionAuthorizer(rules, self._plugins, revision.id, ignore_rules=self._ignore_rules)

    def _shadowed(self, first: Authorizer, *, slow: bool) -> ShadowAuthorizer | None:
        """``first`` with the shadow beside it; None if there is none that can be asked: it is only a shadow."""
        if self.shadow is None:
            return None
        try:
            asked = load_bundle(self.shadow)
            rules = authorizer_for(asked)
        except PolicyError as exc:
            if self._asked is None:
                _log.warning("the shadow policy is not asked, its bundle is refused:\n%s", exc)
                return None
            # its watcher will say nothing if the files come back to what they were
            _log.warning("the shadow policy stays as it was, its bundle is refused:\n%s", exc)
            asked = self._asked
            rules = authorizer_for(asked)
        except Exception:
            _log.exception("the shadow policy in %s is not asked", self.shadow)
            return None
        self._asked = asked
        why = _slow(rules)
        if why and not slow:
            # asking it would make every call wait, which is an effect
            _log.warning("the shadow policy is not asked, it would slow calls down: %s", why)
            return None
        return ShadowAuthorizer(first, self._with_plugins(rules, asked), asked.id)

    def follow(self, engine: Engine) -> None:
        """Put each change of the bundle's files, and of the shadow's, in force in ``engine``, until that is closed.

        A bundle that is refused leaves the policy that is in force in force, and the log says why.
        """
        if not self.watch:
            return
        one_at_a_time = threading.Lock()

        def adopt(revision: Revision) -> None:
            # what this raises, the watcher tells, and tries again
            with one_at_a_time:
                engine.adopt(self.make(revision))

        def adopt_shadow(_: Revision) -> None:
            # beside whatever is in force by now, which the other watcher may have just replaced
            with one_at_a_time:
                engine.adopt(self.make(engine.policy.revision, in_force=True))

        source = DirectorySource(self.bundle)
        engine.run_beside(Watcher(source, engine.policy.revision.id, adopt, engine.reject))
        if self.shadow is not None:
            known = engine.policy.shadow
            engine.run_beside(Watcher(DirectorySource(self.shadow), known, adopt_shadow, lambda _: None))


def _slow(rules: BundleAuthorizer) -> str:
    """Why the rules are evaluated one by one; empty if they are not."""
    return "; ".join(map(str, rules.slow))


def read_policy(section: Section) -> PolicyMaker:
    """Read the section ``policy``. The bundles that it names are not read yet.

    Raises:
        ConfigError: with the place of what cannot be used and what to write instead.
    """
    bundle = section.file("bundle")
    if not bundle.is_dir():
        raise section.refuse("bundle", f"there is no folder {bundle}", "name the folder of a policy bundle")
    plugins = []
    for entry in section.sections("authorizers", ()):
        plugins.append(make_plugin(entry, AUTHORIZERS))
        entry.close()
    ignore_rules = section.boolean("ignore_rules", False)
    if ignore_rules and not plugins:
        raise section.refuse("ignore_rules", "without the rules nobody decides", "name `authorizers`, or remove it")
    shadow = section.section("shadow", None)
    folder = None
    if shadow is not None:
        folder = shadow.file("bundle")
        shadow.close()
        if folder == bundle:
            raise shadow.refuse("bundle", "the shadow is the bundle in force", "name the folder of another bundle")
        if ignore_rules:
            raise section.refuse("shadow", "where rules are ignored, a shadow's are, too", "remove one of the two")
    signers = [_signer(section, file) for file in section.files("require_signature", ())]
    watch = section.boolean("watch", True)
    section.close()
    return PolicyMaker(bundle, folder, plugins, ignore_rules=ignore_rules, signers=signers, watch=watch)


def _signer(section: Section, file: Path) -> Signer:
    try:
        return read_signer(file)
    except KeyFileError as exc:
        raise section.refuse("require_signature", str(exc.problems[0])) from None
