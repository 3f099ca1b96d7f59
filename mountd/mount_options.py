"""Spell the options of a mount as FUSE takes them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How the kernel shows the files: under which name, to whom, and whether to writers."""

    source: str
    allow_other: bool
    read_only: bool

    def as_fuse(self) -> set[str]:
        # A comma would end the option.
        name = self.source.replace("\\", "\\\\").replace(",", "\\,")
        options = {"default_permissions", "subtype=blobfs", f"fsname={name}"}
        options.add("ro" if self.read_only else "rw")
        return options | {"allow_other"} if self.allow_other else options
