"""The daemon behind one mount: FUSE in front, the blobfs core behind, a control socket beside."""
