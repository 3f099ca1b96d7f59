"""Write the daemon's logs: text or JSON, a line each, with the request that it is about.

Only our own loggers follow `--log-level`. The SDKs would log headers and signed addresses
when they are talkative, so they never get below warnings, and what looks like a secret is
blotted out of every line all the same.
"""

import json
import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from blobfs.config import LogFormat, MountSettings
from blobfs.errors import LocalFault
from blobfs.trace import request_id
from blobfs.types import MIB

_OURS = ("blobfs", "mountd")
_FILE_BYTES = 8 * MIB
_OLD_FILES = 2
"""So that logs take at most 24 MiB, whatever happens."""

_SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)
_SECRET_SHAPES = re.compile(
    r"((?:\bsig|X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential|AccountKey"
    r"|SharedAccessSignature|client_secret)=)[^&;\s'\"]+"
    r"|(\bauthorization['\"]?\s*[:=]\s*)[^\r\n]+",
    re.IGNORECASE,
)
_BLOT = "***"


class Redactor:
    """Blots out secrets: by their looks, and those that the environment holds."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {environ.get(name, "") for name in _SECRET_VARIABLES}
        # Shorter ones would blot out half the language, and are no secrets.
        self._values = sorted((v for v in values if len(v) >= 8), key=len, reverse=True)

    def clean(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, _BLOT)
        return _SECRET_SHAPES.sub(lambda match: (match[1] or match[2]) + _BLOT, text)


class LineFormatter(logging.Formatter):
    """One record, one line; an exception's traceback follows in text, is a field in JSON."""

    def __init__(self, style: LogFormat, redactor: Redactor) -> None:
        super().__init__()
        self._as_json = style == "json"
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        line = self._json(record) if self._as_json else self._text(record)
        return self._redactor.clean(line)

    def _text(self, record: logging.LogRecord) -> str:
        request = request_id.get("") or "-"
        line = (
            f"{_moment(record)} {record.levelname:<7} {record.name} [{request}] "
            + record.getMessage().replace("\n", "\\n")
        )
        return "\n".join([line, *self._traceback(record)])

    def _json(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request": request_id.get("") or None,
            # Cleaned before it is escaped, since a secret may hold what JSON escapes.
            "message": self._redactor.clean(record.getMessage()),
        }
        if trace := "\n".join(self._traceback(record)):
            fields["traceback"] = self._redactor.clean(trace)
        return json.dumps(fields, ensure_ascii=False)

    def _traceback(self, record: logging.LogRecord) -> Iterable[str]:
        return [self.formatException(record.exc_info)] if record.exc_info else []


class DaemonLog(logging.handlers.RotatingFileHandler):
    """A log file of bounded size, which the standard streams follow.

    What goes to stderr without passing through here (a crash of the interpreter, a C
    library) has to end up in the file that people look at.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8")
        self._take_standard_streams()

    def doRollover(self) -> None:
        super().doRollover()
        self._take_standard_streams()

    def _take_standard_streams(self) -> None:
        if self.stream is not None:
            os.dup2(self.stream.fileno(), 1)
            os.dup2(self.stream.fileno(), 2)


def set_up_logs(settings: MountSettings, redactor: Redactor) -> None:
    """Send all logs of this process where `settings` want them.

    Raises:
        LocalFault: the file cannot be written.
    """
    handler = _handler(settings)
    handler.setFormatter(LineFormatter(settings.log_format, redactor))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())


def _handler(settings: MountSettings) -> logging.Handler:
    path = settings.log_path
    if path is None:
        return logging.StreamHandler(sys.stderr)
    try:
        if settings.foreground:
            return logging.FileHandler(path, encoding="utf-8")
        return DaemonLog(path)
    except OSError as error:
        raise LocalFault(f"cannot write the log: {error.strerror}. path={str(path)!r}") from error


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
