"""Measure what blobfs promises in speed and memory, on real mounts and a real server.

`make bench` runs `python -m benchmarks`. A benchmark is one function, in `reading.py` or
`listing.py`, that is given a `Lab` and returns figures.
"""
