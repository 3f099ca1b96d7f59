"""Refuse what the rules of a file system forbid."""

from blobfs.errors import BlobfsError


class Refused(BlobfsError):
    """A program asked for what no file system would do; the errno says which rule forbids it."""

    exit_code = 2

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.errno = number
