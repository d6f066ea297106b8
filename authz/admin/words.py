"""Words: what a person may write for a method or a namespace on a command line."""

from __future__ import annotations

from authz.call import METHOD_RULE, NAMESPACE_RULE, is_method, is_namespace
from authz.document import did_you_mean
from authz.errors import AuthzError
from authz.policy.catalogue import Catalogue
from authz.policy.revision import NOWHERE

CLUSTER_WORDS = (NOWHERE, "-", "")


class BadWord(AuthzError):  # noqa: N818 - it is an answer
    """A word that stands for nothing: what is wrong, and what to write instead."""


def method_of(word: str, catalogue: Catalogue) -> str:
    """The full method that ``word`` stands for: itself, a full method without its slash, or a last name alone.

    Raises:
        BadWord: it is no method, or the last name of several.
    """
    if word.startswith("/") or "/" in word:
        full = word if word.startswith("/") else f"/{word}"
        if not is_method(full):
            raise BadWord(f"`{word}` is no method; a method is {METHOD_RULE}")
        return full
    found = [name for name in catalogue.methods if name.rpartition("/")[2] == word]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadWord(f"`{word}` is several methods; write one of: {', '.join(found)}")
    names = [name.rpartition("/")[2] for name in catalogue.methods if not name.endswith("*")]
    raise BadWord(f"the catalogue knows no method `{word}`; {did_you_mean(word, names)}")


def namespace_of(word: str) -> str:
    """The namespace that ``word`` stands for: a name; ``@cluster`` or ``-`` for outside every namespace.

    Raises:
        BadWord: it is neither.
    """
    if word in CLUSTER_WORDS:
        return NOWHERE
    if not is_namespace(word):
        raise BadWord(f"`{word}` is no namespace; a namespace is {NAMESPACE_RULE}, or `{NOWHERE}`")
    return word
