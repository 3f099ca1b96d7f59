"""Help: what a newcomer reads first."""

import pytest
from click.testing import CliRunner, Result

from blobfs import __version__
from blobfs.cli.main import main

COMMANDS = ("mount", "status", "sync", "unmount", "init", "settings", "clients", "log", "check")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="blobfs", terminal_width=80)


@pytest.mark.parametrize("command", [(), *((name,) for name in (*COMMANDS, "umount"))])
def test_help_fits_and_shows_an_example(command: tuple[str, ...]) -> None:
    """A newcomer would have to guess, or read torn lines."""
    shown = call(*command, "--help")
    assert shown.exit_code == 0
    assert "Example:\n" in shown.output
    assert "  blobfs " in shown.output
    assert [line for line in shown.output.splitlines() if len(line) > 80] == []


def test_all_commands_are_listed() -> None:
    """A command would exist and nobody know."""
    shown = call("--help").output
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_without_a_command() -> None:
    """Typing `blobfs` would answer with an error."""
    assert call().exit_code == 0
    assert call().output == call("--help").output


def test_version() -> None:
    """A report of a fault could not say which version it is about."""
    assert call("--version").output == f"blobfs {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fly",), "no such command"),
        (("mount",), "missing argument"),
        (("status", "--loud"), "no such option"),
    ],
)
def test_wrong_usage_is_two_lines(arguments: tuple[str, ...], said: str) -> None:
    """The reason would drown in a page of usage, or look like a lost save (exit code 1)."""
    outcome = call(*arguments)
    assert outcome.exit_code == 2
    first, second = outcome.stderr.splitlines()
    assert first.startswith(f"blobfs: {said}")
    assert second.startswith("hint: see `blobfs ")
    assert outcome.stdout == ""
