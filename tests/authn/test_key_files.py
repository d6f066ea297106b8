"""Key files: what is read from a key set, a PEM file or a secret, what is skipped, and what refuses the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from jwt.algorithms import RSAAlgorithm

from authz.authn import base64url
from authz.authn.key_files import read_key_set, read_key_set_file, read_pem_files, read_secret_file
from authz.authn.keys import KeySet
from authz.errors import KeyFileError
from authz.testing import SigningKey

EC = SigningKey.shared("ES256", "ec").jwk()
RSA = SigningKey.shared("RS256", "rsa").jwk()
ED = SigningKey.shared("EdDSA", "ed").jwk()
WEAK = {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True), "kid": "weak"}
BARE = {name: value for name, value in EC.items() if name not in ("use", "alg")}


def read(*entries: Any) -> KeySet:
    return read_key_set(json.dumps({"keys": entries}).encode(), "keys.json")


def test_keys_of_each_kind() -> None:
    keys = read(EC, RSA, ED, SigningKey.shared("ES512", "big").jwk())
    assert [(key.id, sorted(key.algorithms)) for key in keys.keys] == [
        ("ec", ["ES256"]),
        ("rsa", ["RS256"]),
        ("ed", ["EdDSA"]),
        ("big", ["ES512"]),
    ]


def test_the_larger_edwards_curve() -> None:
    raw = ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()
    (key,) = read({"kty": "OKP", "crv": "Ed448", "x": base64url.encode(raw).decode()}).keys
    assert key.algorithms == {"EdDSA"}


def test_a_key_without_an_algorithm_has_those_of_its_kind() -> None:
    (key,) = read({name: value for name, value in RSA.items() if name != "alg"}).keys
    assert key.algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        ({**EC, "use": "enc"}, "the `use` 'enc'"),
        ({**BARE, "key_ops": ["sign"]}, "`key_ops` without verify"),
        ({**BARE, "key_ops": []}, "`key_ops` without verify"),
        ({**EC, "alg": "ECDH-ES"}, "algorithm 'ECDH-ES'"),
        ({**EC, "alg": "HS256"}, "algorithm 'HS256'"),
        ({**EC, "alg": "ES384"}, "'ES384', which it cannot be"),
        ({**EC, "alg": "RS256"}, "'RS256', which it cannot be"),
        ({**EC, "crv": "secp256k1"}, "curve 'secp256k1'"),
        ({**ED, "crv": "X25519"}, "curve 'X25519'"),
        ({"kty": "AKP", "pub": "AA"}, "kind 'AKP'"),
        (WEAK, "1024 bits"),
    ],
)
def test_a_key_that_is_not_for_this_is_skipped_with_a_note(entry: dict[str, Any], note: str) -> None:
    keys = read(entry, {**RSA, "kid": "good"})
    assert [key.id for key in keys.keys] == ["good"]
    assert note in keys.skipped[0]
    with pytest.raises(KeyFileError, match="no key that verifies a token"):
        read(entry)


def padded(text: str) -> str:
    """The same number with a byte more in front."""
    return base64url.encode(b"\0" + base64url.decode(text.encode())).decode()


REFUSED: list[tuple[Any, str]] = [
    ({**EC, "d": "AA"}, "holds `d`, which is secret"),
    ({**RSA, "p": "AA"}, "holds `p`, which is secret"),
    ({"kty": "oct", "k": "AAAA"}, "holds `k`, which is secret"),
    ({**EC, "use": "enc", "d": "AA"}, "holds `d`"),
    ("x", "is not an object"),
    (None, "is not an object"),
    ({}, "has no `kty`"),
    ({**EC, "kty": 1}, "has no `kty`"),
    ({**EC, "use": ["sig"]}, "`use` that is not text"),
    ({**EC, "key_ops": "verify"}, "`key_ops` that are not a list"),
    ({**EC, "key_ops": [1]}, "`key_ops` that are not a list"),
    ({**EC, "alg": 1}, "`alg` that is not text"),
    ({**EC, "kid": 1}, "`kid` that is not"),
    ({**EC, "kid": ""}, "`kid` that is not"),
    ({**EC, "kid": "a\u202eb"}, "`kid` that is not"),
    ({**EC, "x": EC["y"]}, "not a sound EC key"),
    ({**EC, "x": EC["x"] + "AAAA"}, "not a sound EC key"),
    ({**EC, "x": EC["x"][:-4]}, "not a sound EC key"),
    ({**EC, "x": padded(EC["x"])}, "wrong length"),
    ({**EC, "y": padded(EC["y"])}, "wrong length"),
    ({**EC, "x": EC["x"] + "="}, "base64url"),
    ({**EC, "x": None}, "not base64url"),
    ({**EC, "x": "é"}, "not base64url"),
    ({**EC, "y": 1}, "not base64url"),
    ({**RSA, "n": "AA"}, "not a sound RSA key"),
    ({**RSA, "n": "A" * 4000}, "too long"),
    ({**RSA, "e": "AA"}, "not a sound RSA key"),
    ({**RSA, "e": ""}, "not base64url"),
    ({**ED, "x": "AAAA"}, "not a sound OKP key"),
]


@pytest.mark.parametrize(("entry", "message"), REFUSED)
def test_what_refuses_the_whole_set(entry: Any, message: str) -> None:
    with pytest.raises(KeyFileError, match=message) as caught:
        read(RSA, entry)
    assert str(caught.value).startswith("keys.json: key 1 ")


def test_an_exponent_of_three_is_skipped() -> None:
    assert "exponent" in read({**RSA, "e": "Aw"}, EC).skipped[0]


def test_two_keys_of_one_name_refuse_the_set() -> None:
    with pytest.raises(KeyFileError, match="two keys have the `kid` 'ec'"):
        read(EC, {**RSA, "kid": "ec"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "`keys` is not a list"),
        (b'{"keys": []}', "`keys` is not a list"),
        (b'{"keys": {}}', "`keys` is not a list"),
        (b'{"keys": {"a": 1}}', "`keys` is not a list"),
        (b'{"keys": "a"}', "`keys` is not a list"),
        (b'{"keys": [], "keys": []}', "names a member twice"),
        (b"<html>", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b'{"keys": [' + b"1," * 100 + b"1]}", "more than 100"),
        (b" " * 300_000, "larger than"),
    ],
)
def test_what_is_no_key_set(data: bytes, message: str) -> None:
    with pytest.raises(KeyFileError, match=message):
        read_key_set(data, "keys.json")


def test_which_keys_are_tried() -> None:
    keys = read(EC, {**BARE, "kid": "ec2"}, RSA)
    assert [key.id for key in keys.find("ec", "ES256")] == ["ec"]
    assert list(keys.find("ec", "RS256")) == []
    assert list(keys.find("other", "ES256")) == []
    assert list(keys.find(None, "ES256")) == []
    assert [key.id for key in keys.find(None, "RS256")] == ["rsa"]


def test_keys_without_a_name_are_all_tried(tmp_path: Path) -> None:
    paths = []
    for name in ("old", "new"):
        paths.append(tmp_path / f"{name}.pem")
        paths[-1].write_bytes(SigningKey.shared("ES256", name).public_pem())
    keys = read_pem_files(paths)
    assert len(keys.find(None, "ES256")) == len(keys.find("anything", "ES256")) == 2


PRIVATE = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
SMALL = rsa.generate_private_key(65537, 1024).public_key()
SMALL_PEM = SMALL.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

X25519 = x25519.X25519PrivateKey.generate().public_key()
X25519_PEM = X25519.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PRIVATE, "holds a private key"),
        (b"", "not one public key"),
        (SigningKey.shared().public_pem() * 2, "not one public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "the key"),
        (SMALL_PEM, "1024 bits"),
        (X25519_PEM, "is not an RSA, elliptic curve or Edwards curve key"),
        (b"x" * 300_000, "is larger than"),
    ],
)
def test_pem_files_that_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match=message):
        read_pem_files([path])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "fewer than the 64"),
        (b"x" * 63 + b"\r\n", "fewer than the 64"),
        (SigningKey.shared().public_pem(), "looks like a key pair's half"),
        (b"ssh-ed25519 " + b"A" * 80, "looks like a key pair's half"),
    ],
)
def test_secrets_that_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match=message):
        read_secret_file(path, ["HS256", "HS512"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        read_key_set_file(tmp_path / "absent.json")
