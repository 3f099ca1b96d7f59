"""Choose the settings of a mount: flags, then `BLOBFS_*`, then defaults.

Parsing is pure: texts and mappings in, values or a `UsageError` that names the flag or
the variable out. Secrets are no settings: they stay in the environment and in the files
of the SDKs, and never pass through here.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from blobfs import folders
from blobfs.errors import UsageError
from blobfs.types import GIB, KIB, MIB

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
Durability = Literal["local", "remote"]
"""What fsync promises: the bytes are on this disk, or committed in the bucket."""


class MountSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a daemon has to know about its mount. Sent to it as JSON; holds no secret."""

    source: str
    """As an URL that `blobfs.stores.opening.parse_source` reads: a bare name became `s3://name`."""
    mountpoint: Path
    """Absolute, without symbolic links."""
    state_dir: Path
    """Of this source alone: the name of the source is already part of it."""
    cache_dir: Path
    """Of this source alone, likewise."""
    runtime_dir: Path
    """Where the control sockets of all mounts of this user are."""
    read_only: bool = False
    read_write: bool = False
    """Writing is asked for: refuse to mount where it is not possible."""
    durability: Durability = "local"
    unsaved_size_bytes: int | None = None
    """Most room for what is not in the bucket yet; None: all that leaves 5 % of the disk free."""
    settle_s: float = 0.5
    """How long after its last close a file is saved."""
    single_writer: bool = False
    """The user answers for it that nobody else writes: the store cannot keep two apart."""
    native_ttl_s: float = 60
    cache_size_bytes: int = 20 * GIB
    memory_bytes: int = 256 * MIB
    deadline_s: float = 30
    allow_other: bool = False
    uid: int = msgspec.field(default_factory=os.getuid)
    gid: int = msgspec.field(default_factory=os.getgid)
    umask: int = 0o022
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    log_file: Path | None = None
    """None: `daemon.log` in the state folder, or stderr in the foreground."""
    foreground: bool = False
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    anonymous: bool = False
    account: str | None = None

    @property
    def log_path(self) -> Path | None:
        """The file that logs go to; None: stderr."""
        if self.log_file is None and not self.foreground:
            return self.state_dir / "daemon.log"
        return self.log_file

    def describe_mounted(self, read_only_reason: str | None = None) -> str:
        """Say that it is mounted, and why nothing can be written, if nobody asked for that."""
        mode = " (read-only)" if self.read_only or read_only_reason else ""
        why = f"\nread-only because {read_only_reason}" if read_only_reason else ""
        return f"mounted {self.source} on {self.mountpoint}{mode}{why}"


def encode_settings(settings: MountSettings) -> bytes:
    return msgspec.json.encode(settings, enc_hook=str)


def decode_settings(data: bytes) -> MountSettings:
    """Read what `encode_settings` wrote.

    Raises:
        msgspec.ValidationError: it is something else.
    """
    return msgspec.json.decode(data, type=MountSettings, dec_hook=lambda kind, value: kind(value))


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Read a size in bytes: `20GiB`, `500M` (as in `dd`: MiB), `500MB` (decimal), `4096`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a size. value={text!r}", hint="write it like 20GiB, 500M or 4096")
    number, letter, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else KIB
    power = " kmgtp".index(letter.lower() or " ")
    return int(float(number) * base**power) if "." in number else int(number) * base**power


def parse_duration_s(text: str) -> float:
    """Read a duration in seconds: `60`, `60s`, `5m`, `1h`, `1d`, `500ms`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a duration. value={text!r}", hint="write it like 60, 60s, 5m or 1h")
    return float(match[1]) * _SECONDS[match[2].lower()]


def parse_switch(text: str) -> bool:
    """Read `1`, `true`, `yes`, `on` and their opposites."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"neither yes nor no. value={text!r}", hint="write it as 1 or 0")


MOST_QUOTA_BYTES = 1 << 62
MOST_TRASH_DAYS = 36_500


def _quota(text: str) -> int | None:
    """Read a size, or `none`."""
    if text.strip().lower() == "none":
        return None
    value = parse_size(text)
    if not MIB <= value <= MOST_QUOTA_BYTES:
        raise UsageError(
            f"not a size for a volume. value={text!r}", hint="from 1MiB to 4096PiB, or none"
        )
    return value


def _trash_time_s(text: str) -> int:
    """Read a duration in whole seconds, no shorter than what was written."""
    value = parse_duration_s(text)
    if value > MOST_TRASH_DAYS * _SECONDS["d"]:
        raise UsageError(f"too long. value={text!r}", hint=f"the most is {MOST_TRASH_DAYS}d")
    return math.ceil(value)


def _at_least(
    least: float, said: str, parse: Callable[[str], float]
) -> Callable[[str], float | int]:
    def parse_bounded(text: str) -> float | int:
        value = parse(text)
        if value < least:
            raise UsageError(f"too small. value={text!r}", hint=f"the least is {said}")
        return value

    return parse_bounded


def _whole_number(base: int, said: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text, base)
        except ValueError:
            value = -1
        if value < 0:
            raise UsageError(f"not {said}. value={text!r}")
        return value

    return parse


def _permission_bits(text: str) -> int:
    bits = _whole_number(8, "an octal number, like 022")(text)
    if bits > 0o777:
        raise UsageError(f"more than permission bits. value={text!r}", hint="the most is 777")
    return bits


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise UsageError(f"unknown word. value={text!r}", hint=f"one of {', '.join(words)}")
        return text.lower()

    return parse


def _endpoint(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise UsageError(
            f"not an endpoint. value={text!r}", hint="write it like https://storage.example:9000"
        )
    if "@" in rest or "?" in rest:
        # The value stays out of the message: it may well be a secret.
        raise UsageError(
            "an endpoint must not hold credentials",
            hint="put them into the environment or into the files of the SDK",
        )
    return text


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - resolve() would follow links


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `name` is its flag without dashes in front, `field` its place in a mount's."""

    name: str
    field: str
    parse: Callable[[str], Any]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "BLOBFS_" + self.name.upper().replace("-", "_")


SETTINGS = (
    Setting("read-only", "read_only", parse_switch),
    Setting("read-write", "read_write", parse_switch),
    Setting("durability", "durability", _one_of(get_args(Durability))),
    Setting("unsaved-size", "unsaved_size_bytes", _at_least(16 * MIB, "16MiB", parse_size)),
    Setting("settle", "settle_s", parse_duration_s),
    Setting("single-writer", "single_writer", parse_switch),
    Setting("native-ttl", "native_ttl_s", parse_duration_s),
    Setting("cache-size", "cache_size_bytes", _at_least(MIB, "1MiB", parse_size)),
    Setting("memory", "memory_bytes", _at_least(16 * MIB, "16MiB", parse_size)),
    Setting("deadline", "deadline_s", _at_least(1, "1s", parse_duration_s)),
    Setting("state-dir", "state_dir", _absolute),
    Setting("cache-dir", "cache_dir", _absolute),
    Setting("allow-other", "allow_other", parse_switch),
    Setting("uid", "uid", _whole_number(10, "a user number")),
    Setting("gid", "gid", _whole_number(10, "a group number")),
    Setting("umask", "umask", _permission_bits),
    Setting("log-level", "log_level", _one_of(get_args(LogLevel))),
    Setting("log-format", "log_format", _one_of(get_args(LogFormat))),
    Setting("log-file", "log_file", _absolute),
    Setting("profile", "profile", str),
    Setting("region", "region", str),
    Setting("endpoint-url", "endpoint_url", _endpoint),
    Setting("anonymous", "anonymous", parse_switch),
    Setting("account", "account", str),
)


VOLUME_SETTINGS = (
    Setting("quota", "quota_bytes", _quota),
    Setting("trash-time", "trash_s", _trash_time_s),
)
"""Those of a volume, which lie in the bucket: no variable of one machine sets them."""


def choose_volume_settings(flags: Mapping[str, str | None]) -> dict[str, int | None]:
    """Return the fields of `formats.head.VolumeSettings` that flags set, by name.

    `flags` is keyed by `Setting.name`; None is a flag that was not given, and a value of None
    takes a limit away.

    Raises:
        UsageError: a value makes no sense; the message names the flag.
    """
    given = [(setting, flags.get(setting.name)) for setting in VOLUME_SETTINGS]
    return {
        setting.field: _parsed(setting, "--" + setting.name, text)
        for setting, text in given
        if text is not None
    }


def choose_settings(
    flags: Mapping[str, str | bool | None], environ: Mapping[str, str]
) -> dict[str, Any]:
    """Return the values that flags or environment give, by field name.

    `flags` is keyed by `Setting.name`; None is a flag that was not given. An empty
    variable counts as unset.

    Raises:
        UsageError: a value makes no sense; the message names the flag or the variable.
    """
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        flag = flags.get(setting.name)
        if isinstance(flag, bool):
            values[setting.field] = flag
        elif flag is not None:
            values[setting.field] = _parsed(setting, "--" + setting.name, flag)
        elif text := environ.get(setting.variable):
            values[setting.field] = _parsed(setting, setting.variable, text)
    return values


def settings_for(
    source: str,
    state_id: str,
    mountpoint: Path,
    chosen: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    foreground: bool = False,
) -> MountSettings:
    """Complete what `choose_settings` returned into the settings of one mount.

    `state_id` names the folders of this source below the roots that were chosen.

    Raises:
        UsageError: one folder is to be both: who clears the cache would lose what is unsaved.
    """
    state_root = chosen.get("state_dir", folders.state_root(environ))
    cache_root = chosen.get("cache_dir", folders.cache_root(environ))
    if state_root == cache_root:
        raise UsageError(
            f"state and cache cannot share a folder. path={str(state_root)!r}",
            hint="give --state-dir and --cache-dir two folders",
        )
    placed = {
        "source": source,
        "mountpoint": mountpoint,
        "state_dir": state_root / state_id,
        "cache_dir": cache_root / state_id,
        "runtime_dir": folders.runtime_root(environ),
        "foreground": foreground,
    }
    return MountSettings(**{**chosen, **placed})


def _parsed(setting: Setting, said_as: str, text: str) -> Any:
    try:
        return setting.parse(text)
    except UsageError as error:
        raise UsageError(f"{said_as}: {error}", hint=error.hint) from None
