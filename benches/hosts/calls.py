"""What calls cost from Python: see calls.c."""

import time

import diffx
from diffx._library import library

engine = diffx.Engine(threaded=False)
pipeline = engine.model("vix").pipeline(sampler="euler", steps=1)
four = [1.0, 2.0, 3.0, 4.0]


def per(n: int, f) -> float:
    start = time.thread_time_ns()
    for _ in range(n):
        f()
    return (time.thread_time_ns() - start) / n


def tensor() -> None:
    with engine.tensor(four) as t:
        t.memoryview()[3]


def job() -> None:
    with pipeline.start(1) as j:
        j.wait()
        with j.result() as t:
            t.memoryview()[0, 0]


print(f"empty {per(100000, library().dfx_api_version):.1f}")
print(f"tensor {per(20000, tensor):.1f}")
per(20, job)
print(f"job {per(200, job):.1f}")
