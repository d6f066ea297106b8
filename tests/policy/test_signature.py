"""Signatures: only who holds a required key can put a bundle in force, and every file of it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from authz.admin.sign import new_key, sign, verify
from authz.config.policy import read_policy
from authz.document import load
from authz.errors import ConfigError, KeyFileError, PolicyError
from authz.policy.load import load_bundle
from authz.policy.signature import SIGNATURE
from tests.bundle import write_bundle


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    for name in ("ours", "theirs"):
        new_key(tmp_path / f"{name}.pem")
    return {name: tmp_path / f"{name}.pub.pem" for name in ("ours", "theirs")}


@pytest.fixture
def bundle(tmp_path: Path, keys: dict[str, Path]) -> Path:
    folder = write_bundle(tmp_path / "bundle")
    sign(folder, tmp_path / "ours.pem")
    return folder


def test_signed(bundle: Path, keys: dict[str, Path]) -> None:
    found = verify(bundle, [keys["theirs"], keys["ours"]])
    assert found.revision == load_bundle(bundle).id
    assert found.signer.path == keys["ours"]


def test_the_signature_is_no_part_of_the_revision(bundle: Path) -> None:
    before = load_bundle(bundle).id
    (bundle / SIGNATURE).unlink()
    assert load_bundle(bundle).id == before


@pytest.mark.parametrize("name", ["policy.csv", "model.conf", "catalogue.yaml"])
def test_a_byte_more_in_any_file_is_noticed(name: str, bundle: Path, keys: dict[str, Path]) -> None:
    with (bundle / name).open("a") as file:
        file.write("\n# harmless\n")
    with pytest.raises(PolicyError, match="a file was changed since"):
        verify(bundle, [keys["ours"]])


def test_a_file_more_is_noticed(bundle: Path, keys: dict[str, Path]) -> None:
    (bundle / "policy.d").mkdir()
    (bundle / "policy.d" / "more.csv").write_text("p, role:x, *, *, admin, allow\n")
    with pytest.raises(PolicyError, match="a file was changed since"):
        verify(bundle, [keys["ours"]])


def test_by_another_key(bundle: Path, keys: dict[str, Path]) -> None:
    with pytest.raises(PolicyError, match="not by a key that is required"):
        verify(bundle, [keys["theirs"]])


def test_another_key_that_says_it_is_this_one(bundle: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    mine = (bundle / SIGNATURE).read_text().splitlines()[-1].split()
    sign(bundle, tmp_path / "theirs.pem")
    theirs = (bundle / SIGNATURE).read_text().splitlines()[-1].split()
    (bundle / SIGNATURE).write_text(f"{mine[0]} {mine[1]} {theirs[2]}\n")
    with pytest.raises(PolicyError, match="the signature is not by the key"):
        verify(bundle, [keys["ours"]])


def test_a_signature_that_cannot_be_read_is_not_one_that_is_missing(bundle: Path, keys: dict[str, Path]) -> None:
    (bundle / SIGNATURE).unlink()
    (bundle / SIGNATURE).symlink_to(SIGNATURE)
    with pytest.raises(PolicyError, match="cannot be read: Too many levels"):
        verify(bundle, [keys["ours"]])


@pytest.mark.parametrize("text", ["", "# nothing\n", "a b\n", "\x00\xff\n"])
def test_no_signature(text: str, bundle: Path, keys: dict[str, Path]) -> None:
    (bundle / SIGNATURE).write_text(text)
    with pytest.raises(PolicyError):
        verify(bundle, [keys["ours"]])
    (bundle / SIGNATURE).unlink()
    with pytest.raises(PolicyError, match="is not signed"):
        verify(bundle, [keys["ours"]])


def test_base64_that_is_none(bundle: Path, keys: dict[str, Path]) -> None:
    words = (bundle / SIGNATURE).read_text().splitlines()[-1].split()
    (bundle / SIGNATURE).write_text(f"{words[0]} {words[1]} ???\n")
    with pytest.raises(PolicyError, match="the signature is not by the key"):
        verify(bundle, [keys["ours"]])


def test_keys_that_are_none(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no key")
    for name in ("x.pem", "missing.pem"):
        with pytest.raises(KeyFileError):
            verify(bundle, [tmp_path / name])
        with pytest.raises(KeyFileError):
            sign(bundle, tmp_path / name)
    with pytest.raises(KeyFileError, match="cannot be written"):
        new_key(tmp_path / "ours.pem")
    assert (tmp_path / "ours.pem").stat().st_mode & 0o077 == 0


def test_a_server_can_require_it(bundle: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    def maker(key: str):  # type: ignore[no-untyped-def]
        (tmp_path / "c.yaml").write_text(f"bundle: bundle\nrequire_signature: [{key}]\n")
        return read_policy(load(tmp_path / "c.yaml", ConfigError))

    assert maker("ours.pub.pem").load().revision.id == load_bundle(bundle).id
    with pytest.raises(PolicyError, match="not by a key that is required"):
        maker("theirs.pub.pem").load()
    with pytest.raises(ConfigError, match="is no public key in PEM"):
        maker("bundle/policy.csv")
    later = maker("ours.pub.pem")
    with (bundle / "policy.csv").open("a") as file:
        file.write("p, role:x, *, *, admin, allow\n")
    with pytest.raises(PolicyError, match="a file was changed since"):
        later.make(load_bundle(bundle))


def test_keys_of_another_kind(bundle: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "ec.pem", tmp_path / "ec.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="is no Ed25519 key"):
        verify(bundle, [public])
    with pytest.raises(KeyFileError, match="is no Ed25519 key"):
        sign(bundle, private)
