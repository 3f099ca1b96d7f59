"""Trust the servers whose certificates the user trusts, whichever library connects."""

import ssl
from pathlib import Path

from blobfs.errors import UsageError


def read_certificates(path: str) -> bytes:
    """Return the certificates in the file `path`, in PEM.

    Raises:
        UsageError: there is no such file, or it holds none.
    """
    tls_context(path)  # who only hands them on would not notice that they are none
    return Path(path).read_bytes()


def tls_context(path: str) -> ssl.SSLContext:
    """Return a context that trusts the certificates in the file `path` alone.

    Raises:
        UsageError: there is no such file, or it holds none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # an SSLError is one
        raise UsageError(
            f"this is no file of certificates: {error.strerror}. file={path!r}",
            hint="AWS_CA_BUNDLE, or ca_bundle in the profile, names a PEM file",
        ) from None
    return context
