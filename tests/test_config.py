"""Settings: what users write in flags and variables, and what becomes of it."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobfs.config import (
    SETTINGS,
    MountSettings,
    choose_settings,
    choose_volume_settings,
    decode_settings,
    encode_settings,
    parse_duration_s,
    parse_size,
    parse_switch,
    settings_for,
)
from blobfs.errors import UsageError

PLACE = Path("/home/u/data")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4096", 4096),
        ("0", 0),
        ("20GiB", 20 * 2**30),
        ("500M", 500 * 2**20),
        ("500MB", 500 * 10**6),
        ("1.5 gib", 3 * 2**29),
        ("2TiB", 2 * 2**40),
        ("7b", 7),
        ("1k", 1024),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    """A cache of a wrong size fills the disk, or is no use."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("60s", 60), ("5m", 300), ("1h", 3600), ("2d", 172800), ("500ms", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    """A time to live in the wrong unit shows listings that are hours old."""
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "GiB", "20 gigs", "-1", "1e9", "20GiBs", "1_000", "½"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A typing error would silently become some other size."""
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "s", "5 minutes", "-5s", "1:30", "nan", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A typing error would silently become some other time."""
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration_s(text)


@given(st.text(max_size=12))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """A strange value would end in a traceback instead of a hint."""
    for parse in (parse_size, parse_duration_s, parse_switch):
        value = None
        with contextlib.suppress(UsageError):
            value = parse(text)
        assert value is None or value >= 0


def test_flags_come_before_the_environment() -> None:
    """A flag on the command line would be overruled by a forgotten variable."""
    environ = {"BLOBFS_CACHE_SIZE": "1GiB", "BLOBFS_REGION": "eu-west-1", "BLOBFS_PROFILE": ""}
    chosen = choose_settings({"cache-size": "2GiB", "region": None}, environ)
    assert chosen == {"cache_size_bytes": 2 * 2**30, "region": "eu-west-1"}


def test_switches_from_the_environment() -> None:
    """`BLOBFS_READ_ONLY=0` would count as set, or a flag could not overrule it."""
    environ = {"BLOBFS_READ_ONLY": "0", "BLOBFS_ANONYMOUS": "yes"}
    assert choose_settings({}, environ) == {"read_only": False, "anonymous": True}
    assert choose_settings({"read-only": True}, environ)["read_only"] is True


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("cache-size", "20 gigs"),
        ("cache-size", "1K"),
        ("memory", "1MiB"),
        ("native-ttl", "soon"),
        ("deadline", "0"),
        ("umask", "8"),
        ("umask", "1777"),
        ("uid", "root"),
        ("gid", "-1"),
        ("log-level", "loud"),
        ("log-format", "xml"),
        ("endpoint-url", "localhost:9000"),
    ],
)
def test_a_bad_value_is_told_with_its_origin(flag: str, value: str) -> None:
    """Who has a bad variable in a profile would look for it in the command."""
    with pytest.raises(UsageError, match=f"^--{flag}: ") as as_flag:
        choose_settings({flag: value}, {})
    assert value in str(as_flag.value)
    variable = "BLOBFS_" + flag.replace("-", "_").upper()
    with pytest.raises(UsageError, match=f"^{variable}: "):
        choose_settings({}, {variable: value})


@pytest.mark.parametrize("text", ["https://key:hunter2@host", "https://host/?sig=hunter2"])
def test_credentials_in_an_endpoint_are_refused_without_echo(text: str) -> None:
    """A secret would lie in process lists, in settings and in logs."""
    with pytest.raises(UsageError) as refused:
        choose_settings({"endpoint-url": text}, {})
    assert "hunter2" not in str(refused.value) + refused.value.hint


def test_every_setting_has_its_place() -> None:
    """A flag would be accepted and do nothing."""
    assert {setting.field for setting in SETTINGS} <= set(MountSettings.__struct_fields__)
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


def test_folders_are_those_of_the_source(tmp_path: Path) -> None:
    """Two buckets would share a cache, or a chosen folder would be ignored."""
    environ = {"XDG_STATE_HOME": str(tmp_path / "s"), "XDG_CACHE_HOME": "relative"}
    chosen = choose_settings({"cache-dir": str(tmp_path / "big")}, environ)
    settings = settings_for("s3://b", "id1", PLACE, chosen, environ)
    assert settings.state_dir == tmp_path / "s" / "blobfs" / "id1"
    assert settings.cache_dir == tmp_path / "big" / "id1"
    assert settings.log_path == settings.state_dir / "daemon.log"


def test_state_and_cache_need_two_folders(tmp_path: Path) -> None:
    """Who empties the cache would lose what is not saved yet."""
    chosen = {"state_dir": tmp_path, "cache_dir": tmp_path}
    with pytest.raises(UsageError, match="cannot share a folder"):
        settings_for("s3://b", "id1", PLACE, chosen, {})


def test_the_foreground_logs_to_the_terminal() -> None:
    """Whoever debugs in the foreground would look at an empty terminal."""
    assert settings_for("s3://b", "i", PLACE, {}, {}, foreground=True).log_path is None
    logged = settings_for("s3://b", "i", PLACE, {"log_file": Path("/l")}, {}, foreground=True)
    assert logged.log_path == Path("/l")


def test_settings_survive_the_way_to_the_daemon() -> None:
    """The daemon would run with other settings than the user asked for."""
    chosen = choose_settings({"umask": "077", "deadline": "5s", "log-file": "/l"}, {})
    settings = settings_for("az://c/ü", "i", PLACE, chosen, {})
    assert settings.umask == 0o077
    assert decode_settings(encode_settings(settings)) == settings


class TestSettingsOfAVolume:
    def test_what_is_not_given_is_not_set(self) -> None:
        """Who sets one would change the other."""
        assert choose_volume_settings({"quota": None, "trash-time": None}) == {}
        assert choose_volume_settings({"quota": "5GiB"}) == {"quota_bytes": 5 * 2**30}
        assert choose_volume_settings({"trash-time": "0"}) == {"trash_s": 0}

    @pytest.mark.parametrize(
        ("text", "quota_bytes"),
        [("none", None), (" NONE ", None), ("1MiB", 2**20), ("4096P", 2**62), ("2TB", 2 * 10**12)],
    )
    def test_quotas(self, text: str, quota_bytes: int | None) -> None:
        """A limit would be another one than what was written."""
        assert choose_volume_settings({"quota": text}) == {"quota_bytes": quota_bytes}

    @pytest.mark.parametrize(
        ("text", "trash_s"), [("7d", 604_800), ("1h", 3600), ("1500ms", 2), ("0.1s", 1)]
    )
    def test_trash_times(self, text: str, trash_s: int) -> None:
        """What was to be kept would be gone too early."""
        assert choose_volume_settings({"trash-time": text}) == {"trash_s": trash_s}

    @pytest.mark.parametrize(
        ("flag", "text"),
        [
            ("quota", "1000"),
            ("quota", "5000P"),
            ("quota", "much"),
            ("trash-time", "-1"),
            ("trash-time", "36501d"),
            ("trash-time", "none"),
        ],
    )
    def test_what_makes_no_sense_is_named(self, flag: str, text: str) -> None:
        """A slip would become a limit that nobody can live with, or none."""
        with pytest.raises(UsageError, match=f"^--{flag}: "):
            choose_volume_settings({flag: text})
