"""An authority of its own, for tests of encrypted channels."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Authority", "Pair"]


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, as files."""

    key: Path
    certificate: Path


class Authority:
    """Signs certificates for servers on this machine.

    Args:
        folder: Made; gets the authority's own certificate and every pair it issues.
        names: The names its certificates bear, beside ``localhost`` and 127.0.0.1.
        local: Whether they bear those.

    Attributes:
        root: Its own certificate.
    """

    def __init__(self, folder: Path, *names: str, local: bool = True) -> None:
        self._names: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if local:
            self._names += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        self._folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
        self.root = self._sign("root", self._key, self._name).certificate

    def issue(self, name: str) -> Pair:
        """Make a key and sign its certificate, for whoever is called ``name``."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return self._sign(name, ec.generate_private_key(ec.SECP256R1()), subject)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, subject: x509.Name) -> Pair:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(1)
        signed = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
            .add_extension(x509.SubjectAlternativeName(self._names), critical=False)
            .add_extension(x509.BasicConstraints(ca=name == "root", path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        pair = Pair(self._folder / f"{name}.key", self._folder / f"{name}.pem")
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return pair
