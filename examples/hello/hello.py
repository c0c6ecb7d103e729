"""Samples the carried model and prints a checksum of the bytes: the same in every language.

DIFFX_LIBRARY=path/to/libdiffx.so PYTHONPATH=bindings/python python3 examples/hello/hello.py
"""
import diffx


def fnv1a(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    return h


with diffx.Engine() as engine:
    paths = engine.model("vix").pipeline().sample(16, seed=1)
    print(f"{fnv1a(paths.tobytes()):016x}")
