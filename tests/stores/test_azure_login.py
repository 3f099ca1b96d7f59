"""Show which login is chosen, and that no secret leaves it."""

import base64
import subprocess
import sys

import pytest

from blobfs.errors import UsageError
from blobfs.stores.azure_login import Login, find_login

KEY = base64.b64encode(b"a secret key").decode()
SAS = "sv=2026-01-01&sig=a%20secret%20signature"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=named;AccountKey={KEY};"
PRINCIPAL = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "secret"}


def login(environ: dict[str, str], **options: object) -> Login:
    chosen = {"account": None, "endpoint_url": None, "anonymous": False, **options}
    return find_login(environ, **chosen)  # type: ignore[arg-type]


EVERYTHING = {
    "AZURE_STORAGE_CONNECTION_STRING": CONNECTION,
    "AZURE_STORAGE_KEY": KEY,
    "AZURE_STORAGE_SAS_TOKEN": SAS,
    "AZURE_STORAGE_ACCOUNT": "account",
    **PRINCIPAL,
}


def test_the_ways_come_in_the_documented_order() -> None:
    """Or a user with two logins would be somebody else than the manual says."""
    environ = dict(EVERYTHING)
    assert login(environ, anonymous=True).way == "anonymous"
    for variable, way in (
        ("AZURE_STORAGE_CONNECTION_STRING", "connection string"),
        ("AZURE_STORAGE_KEY", "account key"),
        ("AZURE_STORAGE_SAS_TOKEN", "SAS"),
    ):
        assert login(environ).way == way
        del environ[variable]
    assert login(environ).way == "token"


def test_the_account_of_the_option_goes_first() -> None:
    """Or `--account` would be ignored where a variable is set."""
    assert login(EVERYTHING, account="chosen").account_url == (
        "https://chosen.blob.core.windows.net"
    )
    assert login(EVERYTHING).account == "account"
    only = {"AZURE_STORAGE_CONNECTION_STRING": CONNECTION}
    assert login(only).account_url == "https://named.blob.core.windows.net"


@pytest.mark.parametrize(
    ("text", "url", "account"),
    [
        (f"BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature={SAS}",
         "https://a.blob.core.windows.net", "a"),
        (f"AccountName=a;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn",
         "https://a.blob.core.chinacloudapi.cn", "a"),
        (f"AccountName=a;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/a;",
         "http://127.0.0.1:10000/a", "a"),
    ],
)  # fmt: skip
def test_connection_strings_say_where(text: str, url: str, account: str) -> None:
    """Or the string that the portal hands out would not do."""
    found = login({"AZURE_STORAGE_CONNECTION_STRING": text})
    assert (found.account_url, found.account) == (url, account)


def test_an_emulator_has_its_account_in_the_path() -> None:
    """Or `--endpoint-url http://127.0.0.1:10000` would ask for a container of another name."""
    environ = {"AZURE_STORAGE_KEY": KEY}
    for url in ("http://127.0.0.1:10000", "http://127.0.0.1:10000/acct/"):
        found = login(environ, account="acct", endpoint_url=url)
        assert found.account_url == "http://127.0.0.1:10000/acct"
    found = login(environ, account="acct", endpoint_url="https://blobs.example.org/")
    assert found.account_url == "https://blobs.example.org"


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({}, {}),
        ({"AZURE_STORAGE_CONNECTION_STRING": KEY}, {}),
        ({"AZURE_STORAGE_CONNECTION_STRING": f"hello;{KEY}"}, {}),
        (EVERYTHING, {"endpoint_url": f"https://a.blob.core.windows.net/?{SAS}"}),
        (EVERYTHING, {"endpoint_url": "a.blob.core.windows.net"}),
        (PRINCIPAL, {"account": "a", "endpoint_url": "http://a.example.org"}),
    ],
)
def test_nonsense_is_a_usage_error_that_shows_no_secret(
    environ: dict[str, str], options: dict[str, str]
) -> None:
    """Or a mistake in a variable would be answered with a stack of library calls."""
    with pytest.raises(UsageError) as caught:
        login(environ, **options)
    shown = f"{caught.value} {caught.value.hint}"
    assert KEY.rstrip("=") not in shown
    assert "secret" not in shown.replace("holds a secret", "")


def test_no_secret_is_shown() -> None:
    """Or a log line with a login in it would give the account away."""
    for variable in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        shown = repr(login({variable: EVERYTHING[variable]}, account="a"))
        assert KEY not in shown
        assert "secret" not in shown


def test_a_key_does_not_cost_the_import_of_azure_identity() -> None:
    """Or every mount would pay memory and time for logins that it does not use."""
    code = (
        "import sys; from blobfs.stores.azure_login import find_login;"
        f"find_login({{'AZURE_STORAGE_KEY': {KEY!r}}}, account='a', endpoint_url=None,"
        "anonymous=False); import blobfs.stores.azure;"
        "sys.exit('azure.identity' in sys.modules or 'msal' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("authority", "is_asked_about"),
    [
        (None, True),
        ("login.microsoftonline.com", True),
        ("https://login.microsoftonline.com/", True),
        ("https://login.microsoftonline.us", True),
        ("https://login.chinacloudapi.cn/", True),
        ("https://login.stack.example.org/", False),
        ("https://login.microsoftonline.com.example.org", False),
    ],
)
def test_only_a_cloud_of_ones_own_is_taken_at_its_word(
    monkeypatch: pytest.MonkeyPatch, authority: str | None, is_asked_about: bool
) -> None:
    """Or nobody with Azure Stack could log in; or no authority would be looked up any more."""
    chosen: dict[str, object] = {}
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", lambda **said: chosen.update(said))
    environ = {} if authority is None else {"AZURE_AUTHORITY_HOST": authority}
    login(environ, account="account")
    assert chosen["disable_instance_discovery"] is not is_asked_about
