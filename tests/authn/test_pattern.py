"""Patterns: which are taken, which are refused, and that those taken read a text as Python reads it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.authn.pattern import read_pattern

# no deadline: the machine may be busy
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
TAKEN = [
    r"",
    r"orders",
    r"ns:(?P<ns>[a-z0-9-]{1,63}):(?P<role>read|write|admin)",
    r"(?P<ns>[^:]+):(?P<role>.+)",
    r"/ns/(?P<ns>[^/]+)/sa/worker",
    r"https?://x",
    r"[a-z]+[0-9]+",
    r"[a-z]+-x",
    r"(a|b)(c|d)?",
    r"a{3}b{2,}c",
    r"\w+@\d{2}",
    r"[]a]x",
    r"[^]]+\]",
    r"[a-]",
    r"[\]\-\d]",
    r"(a|)",
    r"\.\*\\",
    r".*",
]
REFUSED = [
    (r".+:.+", "could end in more than one place"),
    (r"(?P<ns>.+)-(?P<role>.+)", "could end in more than one place"),
    (r"a?a?a?aaa", "could end in more than one place"),
    (r"[a-z]*[a-z]*", "could end in more than one place"),
    (r"a*b*a", "could end in more than one place"),
    (r"(a|a+)b?[ab]+", "could end in more than one place"),
    (r"\w+_\d+", "could end in more than one place"),
    (r"(a+)+", "repeats a group"),
    (r"(ab)*", "repeats a group"),
    (r"(?:a|aa){2}", "repeats a group"),
    (r"(.)\1", "only .d"),
    (r"a+?", "lazy or possessive"),
    (r"a++", "lazy or possessive"),
    (r"a{2}{3}", "repetition of a repetition"),
    (r"^a", "leave it out"),
    (r"a$", "leave it out"),
    (r"\Aa", "only .d"),
    (r"a\b", "only .d"),
    (r"\x41", "only .d"),
    (r"(?=a)", "where none can be"),
    (r"(?!a)", "where none can be"),
    (r"(?i)a", "where none can be"),
    (r"(?P=x)", "where none can be"),
    (r"(?>a)", "where none can be"),
    (r"a)", "too many"),
    (r"(a", "not closed"),
    (r"[a", "not closed"),
    (r"[", "not closed"),
    (r"[[a]", "in a class"),
    (r"[z-a]", "a range that is none"),
    (r"[a||b]", "doubled"),
    (r"[\d-z]", "a range that is none"),
    (r"*a", "where none can be"),
    (r"a{,3}", "is no repetition"),
    (r"a{x}", "is no repetition"),
    (r"a{3,2}", "ends before it begins"),
    ("a\\", "only .d"),
    (r"é", "not ASCII"),
    ("(a|b)" * 7, "more than 64 ways"),
    ("a" * 1001, "longer than 1000"),
    (r"(?P<a>x)(?P<a>y)", "not a regular expression"),
]


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: str) -> None:
    assert read_pattern(text).pattern == text


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pattern(text)


def test_no_text_takes_long() -> None:
    began = time.monotonic()
    for text in TAKEN:
        pattern = read_pattern(text)
        for hostile in ("a" * 512, "a:" * 256, "ns:" + "a" * 509, "/ns/" + "/" * 508, "aaa" + "b" * 509, "a-" * 256):
            pattern.fullmatch(hostile)
    assert time.monotonic() - began < 10


def test_it_is_ascii_and_whole() -> None:
    assert not read_pattern(r"\d").fullmatch("\u0661")
    assert not read_pattern(r"a").fullmatch("a\n")


@QUIET
@given(st.text("ab.[]()|*+?{}^\\-:1,", max_size=12))
def test_whatever_is_taken_is_a_regular_expression(text: str) -> None:
    try:
        read_pattern(text)
    except ValueError:
        return
    re.compile(text, re.ASCII)
