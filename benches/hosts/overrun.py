"""How long `pump` stays when it is told 2 ms, with layers of 2048 by 2048: thread time, which leaves the neighbours out.

DIFFX_LIBRARY=... PYTHONPATH=bindings/python python3 benches/hosts/overrun.py [width]
"""

import os
import sys
import tempfile
import time

import numpy as np

import diffx

WIDTH, ROWS, BUDGET_US = int(sys.argv[1]) if len(sys.argv) > 1 else 2048, 128, 2000


def model(path: str) -> None:
    """Any weights will do: one step of training."""
    with diffx.Engine() as engine:
        network = {"id": "mlp", "config": {"width": WIDTH, "depth": 2}}
        data = np.random.default_rng(1).random((16, 64), "f4")
        trainer = engine.trainer(model=network, process="ve", steps=1, batch=8, tables={"x": data})
        trainer.run()
        trainer.save(path)


with tempfile.TemporaryDirectory() as folder, diffx.Engine(threaded=False) as engine:
    path = os.path.join(folder, "wide.safetensors")
    model(path)
    pipeline = engine.model(path).pipeline(steps=6, batch=ROWS)
    job, took, left = pipeline.start(ROWS, seed=1), [], 1
    while left:
        start = time.thread_time_ns()
        left = engine.pump(BUDGET_US)
        took.append((time.thread_time_ns() - start) / 1e6)
    full = sorted(took[:-1])
    print(
        f"{len(full)} calls of {BUDGET_US / 1000:g} ms: median {full[len(full) // 2]:.2f}, "
        f"99 % {full[len(full) * 99 // 100]:.2f}, worst {full[-1]:.2f} ms; load {os.getloadavg()[0]:.1f}"
    )
