"""What every command has in common: errors in two lines, and exit codes that mean something."""

import subprocess
import sys

import click
import pytest

from blobfs.cli.main import Commands
from blobfs.errors import AccessDenied, BlobfsError


class OneCommand(Commands):
    """A group whose only command raises `error`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("blobfs")
        self._error = error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        def fail() -> None:
            raise self._error

        return click.Command(cmd_name, callback=fail)


def outcome(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        OneCommand(error).main(["x"], prog_name="blobfs")
    return ended.value.code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOBFS_DEBUG", raising=False)


def test_an_error_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The user would not know what happened, or what to do next."""
    error = AccessDenied("the store\n refused us", hint="log in")
    assert outcome(error, capsys) == (4, "blobfs: the store refused us\nhint: log in\n")


def test_an_error_without_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """There would be an empty line."""
    assert outcome(BlobfsError("odd"), capsys) == (70, "blobfs: odd\n")


def test_a_fault_of_ours_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of ours would cover the screen and exit like a lost save."""
    code, said = outcome(ZeroDivisionError("one by none"), capsys)
    assert code == 70
    assert said.splitlines()[0].endswith("ZeroDivisionError: one by none")
    assert "BLOBFS_DEBUG=1" in said
    assert "Traceback" not in said


def test_debugging_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could find the fault."""
    monkeypatch.setenv("BLOBFS_DEBUG", "1")
    assert "Traceback" in outcome(ZeroDivisionError(), capsys)[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell Ctrl-C from something unsaved."""
    code, said = outcome(error, capsys)
    assert code == 130
    assert said.strip() == "blobfs: interrupted"


def test_a_reader_that_hangs_up_is_no_error() -> None:
    """`blobfs status | head -1` would end with a complaint."""
    program = (
        "import click\n"
        "from blobfs.cli.main import Commands\n"
        "class Many(Commands):\n"
        "    def get_command(self, ctx, name):\n"
        "        return click.Command(name, callback=lambda: [click.echo('x' * 999) "
        "for _ in range(999)])\n"
        "Many('blobfs').main(['x'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
