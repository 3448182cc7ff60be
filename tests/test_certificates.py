"""What is said about files that make no TLS, and the recipe that makes some that do."""

import datetime
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from meshnode import OperatorError, load_tls
from simulations.certificates import ALWAYS, Authority

SECURITY = Path(__file__).parent.parent / "docs" / "security.md"

PAST = (ALWAYS[0], datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC))
FUTURE = (datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC), ALWAYS[1])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def message(ca: Path, certificate: Path, key: Path) -> str:
    """What is said about these files."""
    with pytest.raises(OperatorError) as caught:
        load_tls(str(ca), str(certificate), str(key))
    return str(caught.value)


def test_both_sides_speak_tls_1_3_alone_and_ask_for_a_certificate_of_the_ca_alone(authority: Authority) -> None:
    tls = authority.tls()
    for context in (tls.client, tls.server):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert len(context.get_ca_certs()) == context.cert_store_stats()["x509"] == 1
    assert tls.server.num_tickets == 0


def test_each_file_that_is_missing_is_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("a")
    missing = tmp_path / "missing"
    for files in ((missing, certificate, key), (authority.ca, missing, key), (authority.ca, certificate, missing)):
        assert message(*files).startswith(f"{missing} can't be read: No such file or directory. ")
    assert message(tmp_path, certificate, key).startswith(f"{tmp_path} can't be read: Is a directory. ")


@pytest.mark.parametrize("text", ["", "\0\xff", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"])
def test_each_file_that_is_something_else_is_named(authority: Authority, tmp_path: Path, text: str) -> None:
    certificate, key = authority.issue("a")
    other = tmp_path / "other"
    other.write_text(text)
    assert message(other, certificate, key).startswith(f"{other} is not a certificate in PEM")
    assert str(other) in message(authority.ca, other, key)
    assert message(authority.ca, certificate, other).startswith(f"{other} is not a private key in PEM")
    assert message(authority.ca, key, key).startswith(f"{key} is not a certificate in PEM")
    assert message(authority.ca, certificate, certificate).startswith(f"{certificate} is not a private key in PEM")


def test_a_damaged_key_is_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("a")
    damaged = tmp_path / "damaged.key"
    damaged.write_text(key.read_text().replace("M", "N", 1))
    assert f"{certificate} and {damaged} are not a certificate and its private key" in message(
        authority.ca, certificate, damaged
    )


def test_a_key_of_another_certificate_is_told(authority: Authority) -> None:
    certificate, _key = authority.issue("a")
    _certificate, key = authority.issue("b")
    assert message(authority.ca, certificate, key) == (
        f"{key} is not the key of {certificate}: give the one it was made with"
    )


def test_a_key_with_a_passphrase_is_told_and_nobody_is_asked_for_it(authority: Authority, tmp_path: Path) -> None:
    certificate, plain = authority.issue("a")
    loaded = load_pem_private_key(plain.read_bytes(), None)
    key = tmp_path / "encrypted.key"
    key.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    assert "has a passphrase, and nobody is there to type it" in message(authority.ca, certificate, key)


def test_a_certificate_of_another_ca_is_told(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("a")
    other = Authority(tmp_path)
    assert message(other.ca, certificate, key).startswith(f"{certificate} is no certificate of the CA {other.ca}")


def test_what_is_out_of_date_is_told(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("old", validity=PAST)
    assert message(authority.ca, certificate, key).startswith(f"{certificate} has expired: have the CA sign a new one")
    certificate, key = authority.issue("early", validity=FUTURE)
    assert message(authority.ca, certificate, key).startswith(f"{certificate} is not valid yet")
    old = Authority(tmp_path, validity=PAST)
    assert message(old.ca, *old.issue("a")).startswith(f"a CA in {old.ca} is valid from Jan  1 00:00:00 2000 GMT to ")


def test_a_file_may_hold_the_old_ca_and_the_new_one(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    both = tmp_path / "both.crt"
    both.write_bytes(authority.ca.read_bytes() + other.ca.read_bytes())
    for one in (authority, other):
        load_tls(str(both), *map(str, one.issue("a")))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_recipe_works_as_it_stands(tmp_path: Path) -> None:
    blocks = re.findall(r"```\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("meshnode ")]
    assert len(lines) == 6
    ran = subprocess.run(
        ["sh", "-e"], input="\n".join(lines), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    load_tls(*(str(tmp_path / name) for name in ("ca.crt", "a.crt", "a.key")))
    # A member makes no members.
    with pytest.raises(OperatorError):
        load_tls(*(str(tmp_path / name) for name in ("a.crt", "a.crt", "a.key")))
