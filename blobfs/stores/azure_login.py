"""Find out how to log in to an Azure storage account.

The ways, the first that has what it needs wins:

1. `anonymous`, when it was asked for: nothing is sent.
2. a connection string: AZURE_STORAGE_CONNECTION_STRING
3. the account's key: AZURE_STORAGE_KEY or AZURE_STORAGE_ACCOUNT_KEY
4. a shared access signature: AZURE_STORAGE_SAS_TOKEN
5. a service principal: AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET
6. workload identity, in Kubernetes: AZURE_FEDERATED_TOKEN_FILE
7. managed identity: the virtual machine's, or that of IDENTITY_ENDPOINT
8. Azure CLI: whoever ran `az login`

5 to 8 are tried in turn by azure-identity when the first token is needed; nothing is ever
asked of the user. 5 and 6 ask Microsoft Entra ID, or the authority of AZURE_AUTHORITY_HOST.
The account comes from the option, else AZURE_STORAGE_ACCOUNT, else the connection string.
azure-identity is imported only for 5 to 8: it costs most of all.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential

from blobfs.errors import UsageError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_SCOPE = "https://storage.azure.com/.default"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Login:
    """Where an account is and how to show who we are.

    `account_url` holds no secret. `sdk` is for azure-storage-blob; `obstore` gives what
    obstore wants to be given, None for nothing. Secrets are kept out of `repr`.
    """

    way: str
    account: str
    account_url: str
    sdk: Any = field(repr=False)
    obstore: Callable[[], dict[str, object]] | None = field(repr=False)


def find_login(
    environ: Mapping[str, str],
    *,
    account: str | None,
    endpoint_url: str | None,
    anonymous: bool,
) -> Login:
    """Choose the way to log in, without a request.

    Raises:
        UsageError: no account is named, or what the environment holds makes no sense.
    """
    connection = {} if anonymous else _parse_connection(environ)
    name = account or environ.get("AZURE_STORAGE_ACCOUNT") or connection.get("accountname")
    url = _account_url(name, endpoint_url, connection)
    # A connection string with nothing but an endpoint still says which account it is.
    name = name or urlsplit(url).path.strip("/") or (urlsplit(url).hostname or "").split(".")[0]
    if anonymous:
        return Login("anonymous", name, url, None, None)
    key = connection.get("accountkey")
    sas = connection.get("sharedaccesssignature")
    if not (key or sas):
        key = environ.get("AZURE_STORAGE_KEY") or environ.get("AZURE_STORAGE_ACCOUNT_KEY")
        sas = None if key else environ.get("AZURE_STORAGE_SAS_TOKEN")
    way = "connection string" if connection else "account key" if key else "SAS"
    if key:
        return _by_key(way, name, url, key)
    if sas:
        return _by_sas(way, name, url, sas)
    return _by_token(name, url, environ.get("AZURE_AUTHORITY_HOST", ""))


def _by_key(way: str, account: str, url: str, key: str) -> Login:
    answer: dict[str, object] = {"access_key": key, "expires_at": None}
    return Login(way, account, url, AzureNamedKeyCredential(account, key), lambda: answer)


def _by_sas(way: str, account: str, url: str, sas: str) -> Login:
    token = sas.strip().lstrip("?")
    answer: dict[str, object] = {"sas_token": token, "expires_at": None}
    return Login(way, account, url, AzureSasCredential(token), lambda: answer)


def _by_token(account: str, url: str, authority: str) -> Login:
    if urlsplit(url).scheme != "https":
        raise UsageError(
            f"a token is not sent over plain http. endpoint={url!r}",
            hint="use https, or log in with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
        )
    from azure.identity import AzureAuthorityHosts, DefaultAzureCredential

    clouds = AzureAuthorityHosts
    public = (clouds.AZURE_PUBLIC_CLOUD, clouds.AZURE_GOVERNMENT, clouds.AZURE_CHINA)
    credential = DefaultAzureCredential(
        # A cloud of one's own (Azure Stack) is not known to the public one, which would be asked.
        disable_instance_discovery=_host(authority) not in ("", *public),
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_powershell_credential=True,
        exclude_developer_cli_credential=True,
        exclude_interactive_browser_credential=True,
        exclude_broker_credential=True,
    )
    return Login("token", account, url, credential, _TokenSource(credential))


def _host(authority: str) -> str:
    """Return the host of AZURE_AUTHORITY_HOST, which may be written with or without a scheme."""
    url = authority if "://" in authority else f"https://{authority}"
    return urlsplit(url).hostname or ""


class _TokenSource:
    """Give obstore the tokens of an azure-identity credential, which caches them.

    Concurrency: called from many threads at once; one asks, the others wait for its answer,
    because each `az` or identity endpoint call takes its time.
    """

    def __init__(self, credential: "TokenCredential") -> None:
        self._credential = credential
        self._lock = threading.Lock()

    def __call__(self) -> dict[str, object]:
        with self._lock:
            token: AccessToken = self._credential.get_token(_SCOPE)
        return {
            "token": token.token,
            "expires_at": datetime.fromtimestamp(token.expires_on, tz=UTC),
        }


def _parse_connection(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the connection string, by their names in lower case."""
    text = environ.get("AZURE_STORAGE_CONNECTION_STRING", "").strip().rstrip(";")
    if not text:
        return {}
    fields = [part.partition("=") for part in text.split(";")]
    if not all(name and equals for name, equals, _ in fields):
        # The text itself is a secret.
        raise UsageError(
            "the connection string is not a list of name=value. "
            "variable='AZURE_STORAGE_CONNECTION_STRING'",
            hint="copy it again from the portal: storage account, access keys",
        )
    return {name.strip().lower(): value for name, _, value in fields}


def _account_url(
    account: str | None, endpoint_url: str | None, connection: Mapping[str, str]
) -> str:
    if endpoint_url:
        return _with_account(_checked(endpoint_url), account)
    if endpoint := connection.get("blobendpoint"):
        return _checked(endpoint)
    if not account:
        raise UsageError(
            "no storage account is named.",
            hint="give --account, or set AZURE_STORAGE_ACCOUNT",
        )
    scheme = connection.get("defaultendpointsprotocol", "https")
    suffix = connection.get("endpointsuffix", "core.windows.net")
    return f"{scheme}://{account}.blob.{suffix}"


def _checked(url: str) -> str:
    """Return `url` as one that can be shown and joined.

    Raises:
        UsageError: it is no http URL, or holds a secret.
    """
    parts = urlsplit(url)
    if parts.query or parts.username or parts.password:
        raise UsageError(
            "the endpoint holds a secret, which would end up in logs.",
            hint="put the part behind the `?` into AZURE_STORAGE_SAS_TOKEN",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"not an http or https URL. endpoint={url!r}")
    return url.rstrip("/")


def _with_account(url: str, account: str | None) -> str:
    """Add the account to an emulator's URL, which has it in the path and not in the host."""
    parts = urlsplit(url)
    bare = account and parts.hostname in _LOOPBACK and not parts.path.strip("/")
    return f"{url}/{account}" if bare else url
