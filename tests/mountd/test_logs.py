"""Logs: what can be found in them, and what must never be."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blobfs.config import MountSettings
from blobfs.errors import LocalFault
from blobfs.trace import request_id
from mountd.logs import Redactor, set_up_logs
from tests.mountd.home import Home

NOBODY = Redactor({})


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    """Give the loggers back as they were."""
    root, ours = logging.getLogger(), [logging.getLogger(n) for n in ("blobfs", "mountd")]
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger in ours:
        logger.setLevel(logging.NOTSET)


def log_to(home: Home, redactor: Redactor = NOBODY, **chosen: object) -> Path:
    """Set logs up into a file, as in the foreground with --log-file; return it."""
    path = home.root / "log"
    settings: MountSettings = home.settings(foreground=True, log_file=path, **chosen)
    set_up_logs(settings, redactor)
    return path


def test_a_text_line(home: Home) -> None:
    """What happened, when and for which call could not be told."""
    path = log_to(home)
    request_id.set("r-7")
    logging.getLogger("blobfs.stores.s3").warning("slow answer. key=%r", "a\nb")
    (line,) = path.read_text().splitlines()
    moment, rest = line.split(" ", 1)
    assert moment.endswith("Z")
    assert rest == r"WARNING blobfs.stores.s3 [r-7] slow answer. key='a\nb'"


def test_a_line_break_cannot_forge_a_line(home: Home) -> None:
    """The name of an object could write whatever it likes into the log."""
    path = log_to(home)
    logging.getLogger("blobfs").warning("key=%s", "x\n2026-01-01T00:00:00Z ERROR forged")
    assert len(path.read_text().splitlines()) == 1


def test_a_json_line(home: Home) -> None:
    """Log collectors could not read it."""
    path = log_to(home, log_format="json")
    request_id.set("r-8")
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("mountd.fuse3").exception("broken")
    (line,) = path.read_text().splitlines()
    fields = json.loads(line)
    assert fields["level"] == "error"
    assert fields["logger"] == "mountd.fuse3"
    assert fields["request"] == "r-8"
    assert fields["message"] == "broken"
    assert fields["traceback"].endswith("ValueError: inner")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_level_is_for_our_own_loggers(home: Home, log_format: str) -> None:
    """At debug, the SDKs would write headers with credentials into the log."""
    path = log_to(home, log_level="debug", log_format=log_format)
    logging.getLogger("blobfs.x").debug("ours")
    logging.getLogger("botocore.auth").debug("Authorization: AWS4 hunter2")
    logging.getLogger("azure.core").info("theirs")
    logging.getLogger("urllib3").warning("retrying")
    text = path.read_text()
    assert "ours" in text
    assert "retrying" in text
    assert "hunter2" not in text
    assert "theirs" not in text


def test_the_level_is_kept(home: Home) -> None:
    """A quiet log would be full, or a talkative one empty."""
    path = log_to(home, log_level="warning")
    logging.getLogger("blobfs.x").info("quiet")
    logging.getLogger("blobfs.x").warning("loud")
    assert "quiet" not in path.read_text()
    assert "loud" in path.read_text()


SECRETS = [
    "https://a.blob.core.windows.net/c?sv=1&sig=hunter2%3D&se=2",
    "https://b.s3.amazonaws.com/k?X-Amz-Signature=hunter2&X-Amz-Credential=hunter2/x",
    "X-Amz-Security-Token=hunter2",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hunter2==;EndpointSuffix=x",
    "{'Authorization': 'SharedKey a:hunter2'}",
    "authorization: Bearer hunter2",
    "env has the-secret-hunter2-value in it",
]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_are_blotted_out(home: Home, text: str, log_format: str) -> None:
    """Whoever gets to see a log could log in as the user."""
    redactor = Redactor({"AZURE_CLIENT_SECRET": "the-secret-hunter2-value"})
    path = log_to(home, redactor, log_format=log_format)
    logging.getLogger("blobfs").warning("failed. said=%s", text)
    try:
        raise OSError(text)
    except OSError:
        logging.getLogger("blobfs").exception("failed")
    written = path.read_text()
    assert "failed" in written
    assert "hunter2" not in written


def test_what_is_no_secret_stays() -> None:
    """The log would be useless."""
    text = "get. key='design=1/sigma=2' etag=abc account=a region=eu"
    assert Redactor({"AWS_SESSION_TOKEN": "abc"}).clean(text) == text


def test_a_log_that_cannot_be_written_is_a_clear_error(home: Home) -> None:
    """The daemon would end in a traceback that nobody sees."""
    with pytest.raises(LocalFault, match="cannot write the log"):
        set_up_logs(home.settings(log_file=home.root / "no" / "log"), NOBODY)


ROLLING = """
import logging, os, sys
from pathlib import Path
from mountd import logs
logs._FILE_BYTES = 2000
handler = logs.DaemonLog(Path(sys.argv[1]))
logging.basicConfig(handlers=[handler], level="INFO")
for number in range(200):
    logging.info("line %d %s", number, "x" * 50)
os.write(2, b"last words of a C library\\n")
"""


def test_the_log_is_bounded_and_stderr_follows(home: Home) -> None:
    """A log would fill the disk, or a crash be written into a file that was deleted."""
    path = home.root / "daemon.log"
    subprocess.run([sys.executable, "-c", ROLLING, str(path)], check=True, timeout=60)
    assert path.read_text().endswith("last words of a C library\n")
    files = list(home.root.glob("daemon.log*"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) < 7000
