"""Bring unsaved rows into the bucket, and the log into the local tree."""
