"""The file system as inode operations; knows no operating system and no FUSE."""
