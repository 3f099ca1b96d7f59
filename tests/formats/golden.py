"""Keep the golden volume: the objects in `golden/`, which docs/format.md shows.

Golden files are never written anew: a change of the code that reads them differently would read
everybody's volumes differently. `python -m tests.formats.golden` adds those that are missing.
"""

from pathlib import Path

from blobfs.formats import keys
from blobfs.formats.checkpoint import encode_checkpoint
from blobfs.formats.client import encode_client
from blobfs.formats.entry import encode_entry
from blobfs.formats.head import encode_head
from blobfs.formats.volume import encode_volume
from blobfs.types import Seq
from tests.formats import checkpoint_examples, examples

GOLDEN = Path(__file__).parent / "golden"


def golden_volume() -> dict[str, bytes]:
    """Return all objects of the golden volume by their keys."""
    volume = encode_volume(examples.VOLUME)
    first = encode_entry(examples.first_entry(volume))
    pack = examples.content_pack()
    second = encode_entry(examples.second_entry(first, pack))
    lists = examples.list_pack(pack)
    blocks = examples.block_pack(pack, lists)
    third = encode_entry(examples.third_entry(second, blocks))
    fourth = encode_entry(examples.fourth_entry(third))
    fifth = encode_entry(examples.fifth_entry(fourth))
    sixth = encode_entry(examples.sixth_entry(fifth))
    entries = (first, second, third, fourth, fifth, sixth)
    leaves = checkpoint_examples.leaf_pack(pack, lists)
    refs = checkpoint_examples.refs_pack(pack, lists, leaves)
    name, manifest = encode_checkpoint(checkpoint_examples.checkpoint(third, pack, lists, blocks))
    return {
        keys.volume_key(): volume,
        keys.head_key(): encode_head(examples.HEAD),
        keys.client_key(examples.CLIENT): encode_client(examples.CLIENT_RECORD),
        **{keys.log_key(Seq(n)): data for n, data in enumerate(entries, start=1)},
        **{keys.pack_key(each.name): each.body for each in (pack, lists, blocks, leaves, refs)},
        keys.checkpoint_key(name): manifest,
    }


def read_golden() -> dict[str, bytes]:
    """Return all golden objects by their keys."""
    files = (path for path in GOLDEN.rglob("*") if path.is_file())
    return {path.relative_to(GOLDEN).as_posix(): path.read_bytes() for path in files}


def _write_missing() -> None:
    for key, data in golden_volume().items():
        path = GOLDEN / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    _write_missing()
