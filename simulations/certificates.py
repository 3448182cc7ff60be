"""Certificates of meshes that are not real (X.509, Ed25519): made to be thrown away.

Those of one authority have equal lengths, whatever their keys are: a handshake with any of them has as many bytes as
with any other.
"""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshnode import Tls, load_tls

Validity = tuple[datetime.datetime, datetime.datetime]

ALWAYS: Validity = (
    datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC),
)
"""It is the clock of this machine that is asked, and simulated nodes have others."""


class Authority:
    """A CA in a folder of its own.

    Attributes:
        ca: the file with its certificate.
    """

    def __init__(self, folder: Path, *, validity: Validity = ALWAYS) -> None:
        self._folder = folder
        self._key = Ed25519PrivateKey.generate()
        self._name = _named("mesh")
        self._serial = 1
        self.ca = folder / "ca.crt"
        certificate = (
            self._certificate(self._name, self._key, validity)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, None)
        )
        self.ca.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, validity: Validity = ALWAYS, address: str | None = None) -> tuple[Path, Path]:
        """The files with a new certificate and its key. Where names are looked at, it is that of an IP address."""
        key = Ed25519PrivateKey.generate()
        builder = self._certificate(_named(name), key, validity)
        if address is not None:
            named = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(named, critical=False)
        certificate = builder.sign(self._key, None)
        paths = (self._folder / f"{name}.crt", self._folder / f"{name}.key")
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return paths

    def tls(self, name: str = "member", *, validity: Validity = ALWAYS) -> Tls:
        """What a member with a new certificate uses."""
        certificate, key = self.issue(name, validity=validity)
        return load_tls(str(self.ca), str(certificate), str(key))

    def _certificate(self, subject: x509.Name, key: Ed25519PrivateKey, validity: Validity) -> x509.CertificateBuilder:
        self._serial += 1
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=self._serial,
            not_valid_before=validity[0],
            not_valid_after=validity[1],
        )
        # By these a CA is told from another one of the same name.
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(issuer, critical=False)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
