"""What a command loads: waiting for libraries that it does not need is waiting for nothing."""

import subprocess
import sys

import pytest

HEAVY = {"boto3", "botocore", "azure", "obstore", "lmdb", "pyfuse3", "trio", "asyncio"}


def loaded_by(program: str, home: str) -> set[str]:
    text = f"{program}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={"HOME": home, "XDG_RUNTIME_DIR": home},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "unmount"])
def test_quick_commands_load_little(command: str, tmp_path: pytest.TempPathFactory) -> None:
    """`blobfs status` would take seconds, in a prompt or a status bar."""
    call = f"import sys; sys.argv = ['blobfs', {command!r}, '/nowhere']\n"
    program = call + "from blobfs.cli.main import main\ntry: main()\nexcept SystemExit: pass"
    assert loaded_by(program, str(tmp_path)) & HEAVY == set()


@pytest.mark.slow
def test_no_sdk_is_loaded_to_start_a_mount(tmp_path: pytest.TempPathFactory) -> None:
    """The command would load what only the daemon needs, and only for one kind of store."""
    loaded = loaded_by("import blobfs.cli.mount", str(tmp_path))
    assert loaded & {"boto3", "botocore", "azure", "obstore", "lmdb", "pyfuse3"} == set()
