"""Carry the id of the file system call that work is done for, down to the store and into logs."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Empty outside of any call: start-up, upkeep."""
