"""Open the store that a user named by its URL.

    s3://bucket[/prefix]   az://container[/prefix]   file:///folder   bucket

Only the module of the scheme in use is imported: the SDKs cost tens of MiB each. A store is
asked once before it is handed out, so that a wrong name, wrong credentials and a dead
network are errors of the command line, and not of the first program that reads a file.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import trio

from blobfs.env import Env
from blobfs.errors import BlobfsError, Unreachable, UsageError
from blobfs.stores.aws_profile import configured_endpoint
from blobfs.stores.base import Store
from blobfs.stores.layers import DEADLINE_S, with_layers
from blobfs.stores.metering import Meter

Scheme = Literal["s3", "az", "file"]

OPEN_WITHIN_S = 6.0
"""Opening is given up after this: somebody sits in front of it."""
TRIES = 3
PAUSE_S = 0.3

_FORMS = "write s3://bucket[/prefix], az://container[/prefix] or file:///folder"
_S3_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_AZURE_CONTAINER = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$(root|web|logs)")
_NAMES = {
    "s3": (_S3_BUCKET, "3 to 63 lower-case letters, digits, dots and hyphens"),
    "az": (_AZURE_CONTAINER, "3 to 63 lower-case letters, digits and single hyphens"),
}


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to reach and log in to a store; None leaves it to the SDK's own rules."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    anonymous: bool = False
    account: str | None = None
    deadline_s: float = DEADLINE_S


@dataclass(frozen=True, slots=True)
class Source:
    """What to mount. `place` is the bucket, the container or the folder.

    `prefix` is empty or ends with `/`. `url` names all of it in its canonical form, without
    secrets; `state_id` also tells apart buckets of one name on different servers.
    """

    scheme: Scheme
    place: str
    prefix: str
    url: str
    state_id: str


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store with all its layers, and the meter that counts what it is asked for."""

    store: Store
    meter: Meter
    outer: Store
    """All of the bucket, or of the disk that the folder lies on: what is above `store`."""
    prefix: str
    """Of `store` in `outer`: empty, or with a slash at its end."""


def parse_source(
    text: str,
    options: StoreOptions | None = None,
    environ: Mapping[str, str] | None = None,
) -> Source:
    """Return the source that `text` names, without a request.

    `environ` is looked at for the server and the account only, which are part of `state_id`; so
    are the AWS files that it leads to.

    Raises:
        UsageError: it names none, or holds a secret.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "s3", text
    _refuse_secrets(rest)
    server = _server(scheme, options or StoreOptions(), environ or {})
    if scheme == "file":
        return _folder(rest)
    if scheme == "s3":
        return _bucket("s3", rest, server)
    if scheme == "az":
        return _bucket("az", rest, server)
    raise UsageError(f"there is no such kind of store. scheme={scheme!r}", hint=_FORMS)


async def open_store(source: Source, options: StoreOptions, env: Env) -> OpenedStore:
    """Open `source`, having asked it for one key.

    Raises:
        AccessDenied: credentials are missing, wrong or too weak.
        NotFound: there is no such bucket, container or folder.
        Unreachable: nobody answered within `OPEN_WITHIN_S`.
        UsageError: the options make no sense for it.
    """
    reason: BlobfsError = Unreachable(
        f"no answer within {OPEN_WITHIN_S:g} s. store={source.url}",
        hint="check the network and --endpoint-url",
    )
    with trio.move_on_after(OPEN_WITHIN_S):
        for _ in range(TRIES):
            try:
                return await _open_once(source, options, env)
            except Unreachable as error:
                reason = error
            await trio.sleep(PAUSE_S)
    raise reason


async def _open_once(source: Source, options: StoreOptions, env: Env) -> OpenedStore:
    raw = await _raw_store(source, options, env)
    try:
        await raw.list(source.prefix, max_keys=1)
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await raw.aclose()
        raise
    layered, meter = with_layers(raw, env=env, prefix=source.prefix, deadline_s=options.deadline_s)
    outer, prefix = _outer(source, raw, env)
    around, _ = with_layers(outer, env=env, deadline_s=options.deadline_s)
    return OpenedStore(layered, meter, around, prefix)


def _outer(source: Source, raw: Store, env: Env) -> tuple[Store, str]:
    if source.scheme != "file":
        return raw, source.prefix
    from blobfs.stores.local import LocalStore

    return LocalStore(Path("/"), env), source.place.lstrip("/") + "/"


async def _raw_store(source: Source, options: StoreOptions, env: Env) -> Store:
    if source.scheme == "s3":
        from blobfs.stores.s3 import open_s3

        return await open_s3(
            source.place,
            profile=options.profile,
            region=options.region,
            endpoint_url=options.endpoint_url,
            anonymous=options.anonymous,
            deadline_s=options.deadline_s,
            env=env,
        )
    if source.scheme == "az":
        from blobfs.stores.azure import open_azure

        return await open_azure(
            source.place,
            account=options.account,
            endpoint_url=options.endpoint_url,
            anonymous=options.anonymous,
            deadline_s=options.deadline_s,
        )
    from blobfs.stores.local import LocalStore

    return LocalStore(Path(source.place), env)


def _refuse_secrets(rest: str) -> None:
    """Stop at what should never stand on a command line, without repeating it.

    Raises:
        UsageError: there is a signature or a password in it.
    """
    place, _, _ = rest.partition("/")
    if "@" in place:
        raise UsageError(
            "a URL must not hold a user name or a password",
            hint="put credentials into the environment or the files of the SDK",
        )
    if "?" in rest and re.search(r"(?i)[?&](sig|x-amz-signature)=", rest):
        raise UsageError(
            "a URL must not hold a signature",
            hint="put a SAS into AZURE_STORAGE_SAS_TOKEN, and leave away what follows the ?",
        )


def _folder(rest: str) -> Source:
    path = PurePosixPath(rest)
    if not path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"a folder store is named by an absolute path. path={rest!r}",
            hint="write file:///folder",
        )
    place = f"/{str(path).lstrip('/')}"
    return _source("file", place, "", f"file://{place}", "")


def _bucket(scheme: Literal["s3", "az"], rest: str, server: str) -> Source:
    name, _, prefix = rest.partition("/")
    allowed, rule = _NAMES[scheme]
    if not allowed.fullmatch(name):
        kind = "bucket" if scheme == "s3" else "container"
        raise UsageError(f"this cannot be the name of a {kind}. name={name!r}", hint=rule)
    prefix = prefix.strip("/")
    url = f"{scheme}://{name}/{prefix}".rstrip("/")
    return _source(scheme, name, f"{prefix}/" if prefix else "", url, server)


def _source(scheme: Scheme, place: str, prefix: str, url: str, server: str) -> Source:
    named = f"{url} {server}".rstrip()
    state_id = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Source(scheme, place, prefix, url, state_id)


def _server(scheme: str, options: StoreOptions, environ: Mapping[str, str]) -> str:
    """Return what tells apart two servers that may both have a bucket of this name."""
    if scheme == "s3":
        endpoint = options.endpoint_url or configured_endpoint(environ, options.profile)
        return _canonical_endpoint(endpoint)
    account = options.account or environ.get("AZURE_STORAGE_ACCOUNT", "")
    connection = _connection(environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    account = account or connection.get("accountname", "")
    endpoint = options.endpoint_url or connection.get("blobendpoint", "")
    return f"{account} {_canonical_endpoint(endpoint)}".strip()


def _connection(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value for name, _, value in pairs}


def _canonical_endpoint(url: str) -> str:
    scheme, separator, rest = url.rstrip("/").partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}"
