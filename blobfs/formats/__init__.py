"""Bytes to values and back: what lies in the bucket. Pure."""
