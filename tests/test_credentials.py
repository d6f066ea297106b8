from __future__ import annotations

import pytest

from authz.credentials import BearerToken, ClientCertificate, MalformedCredential, from_metadata
from authz.reason import Reason

SECRET = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"


def test_one_bearer_entry_is_the_token() -> None:
    assert from_metadata([("x", "y"), ("authorization", f"Bearer {SECRET}")]) == (BearerToken(SECRET),)
    assert from_metadata([("authorization", f"bEARER {SECRET}")]) == (BearerToken(SECRET),)


def test_nothing_shown_is_no_credential() -> None:
    assert from_metadata([]) == ()
    assert from_metadata([("authorization-extras", "x"), ("Authorization", "Bearer x")]) == ()


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer  x", "Bearer x y", "Basic dTpw", "BearerX y", " Bearer x", "Bearer x\n",
     "Bearer é", "Bearer\tx", "Bearer x\0", b"Bearer x"],
)  # fmt: skip
def test_an_entry_that_is_not_bearer_and_one_token_is_malformed_and_not_absent(value: str | bytes) -> None:
    (shown,) = from_metadata([("authorization", value)])
    assert isinstance(shown, MalformedCredential)
    assert shown.reason is Reason.CREDENTIAL_MALFORMED


def test_two_entries_are_refused_even_when_they_are_equal() -> None:
    (shown,) = from_metadata([("authorization", "Bearer x"), ("authorization", "Bearer x")])
    assert isinstance(shown, MalformedCredential)
    assert shown.reason is Reason.CREDENTIAL_REPEATED


def test_no_representation_shows_a_secret() -> None:
    assert SECRET not in f"{BearerToken(SECRET)} {BearerToken(SECRET)!r} {[BearerToken(SECRET)]}"
    assert repr(BearerToken(SECRET)) == f"BearerToken(<{len(SECRET)} characters>)"
    assert b"abc" not in repr(ClientCertificate(b"abc")).encode()
