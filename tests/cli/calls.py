"""Call the command line inside of this process."""

from click.testing import CliRunner, Result

from blobfs.cli.main import main
from tests.mountd.home import Home


def call(home: Home, *arguments: object) -> Result:
    """Run `blobfs` with the folders of `home`, in a terminal of 80 columns."""
    return CliRunner().invoke(
        main, [*map(str, arguments)], env=home.environ, prog_name="blobfs", terminal_width=80
    )
