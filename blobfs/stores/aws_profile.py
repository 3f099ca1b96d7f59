"""Find the S3 endpoint that the environment or an AWS profile names, without boto3.

The command line needs it for the name of the state folder, and should not take the time to
import an SDK for that. What it finds is what boto3 will use: its tests compare the two.
"""

import configparser
import shlex
from collections.abc import Mapping

Sections = Mapping[str, Mapping[str, str]]

_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_IGNORE = "ignore_configured_endpoint_urls"
"""The setting that turns all of the others off."""


def configured_endpoint(environ: Mapping[str, str], profile: str | None) -> str:
    """Return the endpoint that boto3 would take by itself; empty: that of AWS.

    A file that cannot be read is taken for an empty one: boto3, which is asked next, says what
    is wrong with it. Without HOME in `environ`, only files that it names are read.
    """
    config = _read(environ, "AWS_CONFIG_FILE", ".aws/config")
    credentials = _read(environ, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")
    name = profile or _first(environ, ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")) or "default"
    chosen = {**_section(config, "profile", name), **credentials.get(name, {})}
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or chosen.get(_IGNORE, "")
    if ignored.lower() == "true":
        return ""
    services = _section(config, "services", chosen.get("services", ""))
    of_s3 = _nested(services.get("s3", "")).get("endpoint_url")
    return _first(environ, _VARIABLES) or of_s3 or chosen.get("endpoint_url", "")


def _read(environ: Mapping[str, str], variable: str, usual: str) -> Sections:
    home = environ.get("HOME", "")
    path = environ.get(variable) or (f"{home}/{usual}" if home else "")
    if path.startswith("~/"):
        path = home + path[1:]
    parser = configparser.RawConfigParser()
    try:
        parser.read([path] if path else [])
        return {name: dict(parser.items(name)) for name in parser.sections()}
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}


def _section(config: Sections, kind: str, name: str) -> Mapping[str, str]:
    """Return the section `[kind name]`; the name may be quoted, and `default` stands alone, too."""
    found: Mapping[str, str] = {}
    for title, values in config.items():
        if _words(title) == [kind, name] or (kind, title, name) == (
            "profile",
            "default",
            "default",
        ):
            found = values
    return found


def _words(title: str) -> list[str]:
    try:
        return shlex.split(title)
    except ValueError:
        return []


def _nested(text: str) -> dict[str, str]:
    """Return the settings of an indented block."""
    lines = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")
