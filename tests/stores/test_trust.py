"""The certificates that a user trusts are used, or said to be unusable."""

from pathlib import Path

import pytest

from blobfs.errors import UsageError
from blobfs.stores.trust import read_certificates, tls_context
from tests.certificates import make_certificates


def test_certificates_are_handed_on_as_they_are(tmp_path: Path) -> None:
    """Or a bucket behind a private authority could be listed, and not read."""
    authority = make_certificates(tmp_path).authority
    assert read_certificates(str(authority)) == authority.read_bytes()
    assert len(tls_context(str(authority)).get_ca_certs()) == 1


def test_names_and_signatures_are_checked(tmp_path: Path) -> None:
    """Or anybody with any certificate could stand in for the store."""
    context = tls_context(str(make_certificates(tmp_path).authority))
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_without_certificates_is_said_to_be_one(
    tmp_path: Path, content: bytes | None
) -> None:
    """Or a typing error in AWS_CA_BUNDLE would look like a server that cannot be trusted."""
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_bytes(content)
    for use in (read_certificates, tls_context):
        with pytest.raises(UsageError, match=r"file=.*bundle\.pem") as caught:
            use(str(file))
        assert caught.value.hint
