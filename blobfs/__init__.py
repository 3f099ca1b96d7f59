"""blobfs: a bucket as a directory that any program can use."""

__version__ = "0.1.0"
