"""Make the checkpoints of small volumes like those of large ones: many blocks, often."""

from blobfs.model.checkpoint_blocks import BlockSizes
from blobfs.sync.checkpoint_making import CheckpointSizes
from blobfs.sync.checkpointer import CheckpointRules

SMALL = CheckpointSizes(
    BlockSizes(target_bytes=500),
    pack_bytes=2000,
    inline_bytes=150,
    refs_bytes=500,
    refs_in_a_block=3,
)
"""Many blocks, in many packs, and blocks of refs."""

OFTEN = CheckpointRules(due_entries=1, sizes=SMALL)
"""After each commit."""
