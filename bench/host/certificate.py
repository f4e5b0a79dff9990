"""The certificate by which the processes of one trial recognise each other, where their protocol executes what it
receives. It is made for the trial and is gone with it.

All processes of the trial hold the same private key and accept the same certificate and no other: who can't read the
file can neither connect to them nor pose as one of them. The file is readable by its owner alone; neither a command
line nor an environment variable holds the key.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

CERTIFICATE_VARIABLE = "SCALING_CERTIFICATE"
"""The variable that names the file of the trial's certificate; not set where its processes have none."""
CERTIFICATE_FILE = "certificate.pem"
COMMON_NAME = "scaling-trial"
VALID_FROM, VALID_UNTIL = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""It ends by being forgotten: nodes whose clocks are wrong accept it too."""


def create_certificate() -> str:
    """A new private key with its self-signed certificate, as PEM text.

    Raises:
        ModuleNotFoundError: Without the package ``cryptography``.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    # Elliptic curves: an RSA key takes 0.1 s to make.
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, COMMON_NAME)])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(COMMON_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return str((private + certificate.public_bytes(serialization.Encoding.PEM)).decode())


def write_certificate(text: str, folder: Path) -> Path:
    """Write a certificate with its key into a folder, where nobody else can read it; returns the file.

    Raises:
        FileExistsError: If there is one already, or anything else of that name.
    """
    path = folder / CERTIFICATE_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path
