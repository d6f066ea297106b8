"""Project Wycheproof's JSON web signatures, read where they are: each judged case comes out as it must."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from authz.authn import base64url
from authz.authn.key_files import read_key_set
from authz.authn.keys import SYMMETRIC, KeySet, secret_key
from authz.authn.token import read_token
from authz.errors import AuthenticationError, KeyFileError

DATA = Path(__file__).parents[3] / "shared" / "data" / "wycheproof_jws.json"


@cache
def document() -> dict[str, Any]:
    if not DATA.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{DATA.name} is missing")
        pytest.skip(f"{DATA.name} is not here")
    loaded: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return loaded


def keys_of(entry: dict[str, Any]) -> KeySet:
    """The key set that the case's key is: one secret alone as from its file, anything else as from an issuer."""
    if len(entry.get("keys", ())) == 1:
        return keys_of(entry["keys"][0])
    if entry.get("kty") == "oct" and entry.get("alg") in SYMMETRIC:
        return KeySet((secret_key(base64url.decode(entry["k"].encode()), [entry["alg"]]),))
    return read_key_set(json.dumps(entry if "keys" in entry else {"keys": [entry]}).encode(), "wycheproof")


# A published set with a secret in it is refused as a whole, although this signature is right.
REFUSED_BY_DESIGN = {("json_web_key", 2)}


def is_accepted(case: dict[str, Any]) -> bool:
    entry = document()["keys"][case["key"]]
    try:
        token = read_token(case["jws"], 65_536)
        base64url.decode(token.payload)
        found = keys_of(entry).find(token.key_id, token.algorithm)
    except (AuthenticationError, KeyFileError, ValueError):
        return False
    return any(key.verifies(token.algorithm, token.signed, token.signature) for key in found)


def test_every_judged_case() -> None:
    judged = [case for case in document()["cases"] if case["expect"] != "either"]
    assert {(case["file"], case["tcId"]) for case in judged if case["expect"] == "accept"} >= REFUSED_BY_DESIGN
    wrong = [
        f"{case['file']} {case['tcId']}: {case['comment']}: {case['expect']}"
        for case in judged
        if is_accepted(case) != (case["expect"] == "accept") and (case["file"], case["tcId"]) not in REFUSED_BY_DESIGN
    ]
    assert len(judged) > 300
    assert not wrong, "\n".join(wrong)
