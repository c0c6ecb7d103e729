"""What calls cost from Python: see calls.c."""

import os
import time

import diffx
from diffx._library import library

engine = diffx.Engine(threaded=False)
STEPS = 20000
pipeline = engine.model("vix").pipeline(sampler="euler", steps=1)
null = engine.model(os.environ["DIFFX_NULL"])
one, many = (null.pipeline(sampler="euler", steps=steps) for steps in (1, STEPS))
four = [1.0, 2.0, 3.0, 4.0]


def per(n: int, f) -> float:
    start = time.thread_time_ns()
    for _ in range(n):
        f()
    return (time.thread_time_ns() - start) / n


def tensor() -> None:
    with engine.tensor(four) as t:
        t.memoryview()[3]


def jobs(p: diffx.Pipeline, n: int) -> float:
    def job() -> None:
        with p.start(1) as j:
            j.wait()
            with j.result() as t:
                t.memoryview()[0, 0]

    per(n // 10 + 1, job)
    return per(n, job)


print(f"empty {per(100000, library().dfx_api_version):.1f}")
print(f"tensor {per(20000, tensor):.1f}")
print(f"job {jobs(pipeline, 200):.1f}")
print(f"null {jobs(one, 500):.1f}")
print(f"step {jobs(many, 10) / STEPS:.1f}")
