"""TLS for links from the files of an operator: a CA of the mesh's own, a certificate and its key.

It reads files and the clock of this machine, so no node calls it: whoever makes the node does, before.
"""

import contextlib
import ssl
import time
from typing import NoReturn

from meshnode.errors import OperatorError
from meshnode.links.tls import Tls

WAY_OUT = "docs/security.md shows how to make one"

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL."""

_NOT_YET_VALID, _EXPIRED = 9, 10
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


def load_tls(ca: str, certificate: str, key: str) -> Tls:
    """TLS 1.3 in which each side shows a certificate of the same CA, and nothing else counts.

    A certificate is of one CA or of none: there are no names in it that are looked at. Its dates are looked at here and
    not in handshakes: renewal must not need links that its lack prevents. Sessions are not resumed.

    Args:
        ca: a file with the certificate of the mesh's own CA, or with several, in PEM. No other CA is believed.
        certificate: a file with the certificate of this node or client, in PEM, for both sides of TLS.
        key: a file with its private key, in PEM, without a passphrase.

    Raises:
        OperatorError: a file can't be read, is something else, does not belong to the others, or is out of date; the
            message names the file and the way out.
    """
    _check_pem(ca, "a certificate", "CERTIFICATE-----")
    _check_pem(certificate, "a certificate", "CERTIFICATE-----")
    _check_pem(key, "a private key", "PRIVATE KEY-----")
    tls = Tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    for context in (tls.client, tls.server):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        _load(context, ca, certificate, key)
    tls.server.num_tickets = 0
    _check_dates(tls.server, ca)
    _try_out(tls, ca, certificate)
    for context in (tls.client, tls.server):
        context.verify_flags |= _NO_CHECK_TIME
    return tls


def _check_pem(path: str, what: str, label: str) -> None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise OperatorError(f"{path} can't be read: {error.strerror}. {WAY_OUT}") from error
    if label not in text:
        raise OperatorError(f"{path} is not {what} in PEM: {WAY_OUT}")


def _load(context: ssl.SSLContext, ca: str, certificate: str, key: str) -> None:
    def no_passphrase() -> NoReturn:
        raise OperatorError(f"{key} has a passphrase, and nobody is there to type it: store the key without one")

    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise OperatorError(f"{ca} is not a certificate in PEM ({error.reason or error}): {WAY_OUT}") from error
    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OperatorError(f"{key} is not the key of {certificate}: give the one it was made with") from error
        raise OperatorError(
            f"{certificate} and {key} are not a certificate and its private key in PEM ({error.reason or error}): "
            f"{WAY_OUT}"
        ) from error


def _check_dates(context: ssl.SSLContext, ca: str) -> None:
    for found in context.get_ca_certs():
        begins, ends = found["notBefore"], found["notAfter"]
        assert isinstance(begins, str)
        assert isinstance(ends, str)
        if not ssl.cert_time_to_seconds(begins) <= time.time() <= ssl.cert_time_to_seconds(ends):
            raise OperatorError(f"a CA in {ca} is valid from {begins} to {ends}, and not now: replace it ({WAY_OUT})")


def _try_out(tls: Tls, ca: str, certificate: str) -> None:
    """Shake hands with ourselves: what the others would object to comes out here, dates included."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (tls.client.wrap_bio(back, there), tls.server.wrap_bio(there, back, server_side=True))
    try:
        for side in (*sides, *sides):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            fault = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
            raise OperatorError(f"{certificate} {fault}: have the CA sign a new one ({WAY_OUT})") from error
        raise OperatorError(
            f"{certificate} is no certificate of the CA {ca} for both sides of TLS ({error.verify_message}): give the "
            f"CA that signed it, or have that CA sign it anew ({WAY_OUT})"
        ) from error
    except ssl.SSLError as error:
        raise OperatorError(f"{certificate} can't be used for TLS 1.3 ({error.reason or error}): {WAY_OUT}") from error
    assert sides[1].version() == "TLSv1.3"
