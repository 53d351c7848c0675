"""Certificates for tests of TLS: an authority of one's own, and what it signs.

Promises: PEM files with keys that are not encrypted, valid for a day; no key leaves the folder given.
Called by tests.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as files; `both` holds the one after the other."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """An authority with its own root certificate, `file`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.file = folder / f"{name}.pem"
        made = self._certificate(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *addresses: str) -> Signed:
        """A certificate whose common name is `name`, for these IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
        made = self._certificate(
            _named(name), key, x509.BasicConstraints(ca=False, path_length=None),
            *([x509.SubjectAlternativeName(found)] if found else []),
        )  # fmt: skip
        stem = self._folder / f"{self.file.stem}-{name}"
        signed = Signed(stem.with_suffix(".crt"), stem.with_suffix(".key"), stem.with_suffix(".pem"))
        signed.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        signed.key.touch(mode=0o600)
        signed.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        signed.both.write_bytes(signed.key.read_bytes() + signed.certificate.read_bytes())
        return signed

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder(
            subject_name=subject, issuer_name=self._name, public_key=key.public_key(),
            serial_number=x509.random_serial_number(), not_valid_before=now - DAY, not_valid_after=now + DAY,
        )  # fmt: skip
        for one in extensions:
            made = made.add_extension(one, critical=isinstance(one, x509.BasicConstraints))
        return made.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
