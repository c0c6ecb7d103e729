#!/usr/bin/env python3
"""Simulated paths and noise, diffx beside JAX, numpy and plain C++, in one run.

    cargo build --release && python3 benches/peers/simulate.py

Makes a virtual environment with jax[cpu] and numpy (in --venv, default beside the build), compiles noise.cpp with g++ -O3
-march=native, and prints one table per number of threads. Contestants take turns; a row is the median of the rounds by
the clock, and of the CPU seconds of all threads, which other work on the machine disturbs less.
"""
import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATHS, STEPS = 1_000_000, 252
KAPPA, THETA, XI, X0 = 2.0, 0.04, 0.3, 0.04
MU, VOL = 0.05, 0.2
NORMALS = 1 << 27


# ---- diffx through its C interface


class Desc(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_uint32), ("rank", ctypes.c_uint32), ("dims", ctypes.c_int64 * 8)]


class EngineOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32), ("flags", ctypes.c_uint32),
        ("arena_bytes", ctypes.c_uint64), ("device_bytes", ctypes.c_uint64),
        ("n_threads", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
        ("device", ctypes.c_char_p), ("allocator", ctypes.c_void_p), ("log", ctypes.c_void_p),
        ("log_user", ctypes.c_void_p), ("cuda_stream", ctypes.c_void_p), ("reserved_ptr", ctypes.c_void_p),
    ]


class SimulateOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32), ("flags", ctypes.c_uint32),
        ("seed", ctypes.c_uint64), ("first_sample", ctypes.c_uint64), ("n_samples", ctypes.c_uint64),
        ("n_times", ctypes.c_uint32), ("substeps", ctypes.c_uint32),
        ("process", ctypes.c_char_p), ("times", ctypes.c_void_p), ("x0", ctypes.c_void_p),
        ("keep", ctypes.c_void_p), ("n_keep", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
    ]


class Diffx:
    DTYPES = {"float32": 1, "float64": 7}  # DFX_F32, DFX_F64

    def __init__(self, library, threads):
        self.lib = ctypes.CDLL(str(library))
        for name in ("dfx_engine_create", "dfx_tensor_create", "dfx_simulate", "dfx_tensor_map"):
            getattr(self.lib, name).restype = ctypes.c_int32
        options = EngineOptions(n_threads=threads)
        options.struct_size = ctypes.sizeof(options)
        self.engine = ctypes.c_void_p()
        self.check(self.lib.dfx_engine_create(ctypes.byref(options), ctypes.byref(self.engine), self.error()))

    def error(self):
        self.text = ctypes.create_string_buffer(512)
        ctypes.cast(self.text, ctypes.POINTER(ctypes.c_uint32))[0] = 512
        return self.text

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.text.raw[16:].split(b"\0")[0].decode())

    def simulate(self, np, process, config, times, dtype, euler):
        """Values at the last time."""
        setting = f"{process}:{json.dumps(config)}".encode()
        times = np.asarray(times, np.float64)
        keep = np.asarray([len(times) - 1], np.uint32)
        start = np.asarray(config_start(process), dtype)
        desc = Desc(dtype=self.DTYPES[np.dtype(dtype).name], rank=0)
        x0, out = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.dfx_tensor_create(
            self.engine, ctypes.byref(desc), start.ctypes.data_as(ctypes.c_void_p), ctypes.byref(x0), self.error()))
        options = SimulateOptions(
            flags=2 if euler else 0, seed=1, n_samples=PATHS, n_times=len(times), process=setting,
            times=times.ctypes.data, x0=x0, keep=keep.ctypes.data, n_keep=1)
        options.struct_size = ctypes.sizeof(options)
        self.check(self.lib.dfx_simulate(self.engine, ctypes.byref(options), ctypes.byref(out), self.error()))
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.check(self.lib.dfx_tensor_map(out, ctypes.byref(data), ctypes.byref(size), self.error()))
        values = np.ctypeslib.as_array(ctypes.cast(data, ctypes.POINTER(ctypes.c_char)), (size.value,)).view(dtype)
        mean = float(values.mean(dtype=np.float64))
        self.lib.dfx_tensor_release(out)
        self.lib.dfx_tensor_release(x0)
        return mean


def config_start(process):
    return X0 if process == "cir" else 1.0


# ---- the contestants


def contestants(library, threads):
    import numpy as np
    import jax
    import jax.numpy as jnp

    f = np.float32
    dt, root = f(1 / STEPS), f(np.sqrt(1 / STEPS))
    dates = np.arange(1, STEPS + 1) / STEPS
    diffx = Diffx(library, threads)
    cir = {"kappa": KAPPA, "theta": THETA, "sigma": XI}
    gbm = {"mu": MU, "sigma": VOL}

    def jax_paths(step, start, last, kind):
        @jax.jit
        def run(key):
            keys = jax.random.split(key, STEPS)
            x = jnp.full(PATHS, start, jnp.float32)
            x, _ = jax.lax.scan(lambda x, k: (step(x, jax.random.normal(k, (PATHS,))), None), x, keys)
            return last(x)

        key = jax.random.key(0, impl=kind)
        return lambda: float(np.asarray(run(key)).mean(dtype=np.float64))

    def jax_cir(x, z):
        p = jnp.maximum(x, 0)
        return x + f(KAPPA) * (f(THETA) - p) * dt + f(XI) * jnp.sqrt(p) * root * z

    def jax_gbm(x, z):
        return x + f(MU) * x * dt + f(VOL) * x * root * z

    def numpy_paths(step, start):
        def run():
            rng = np.random.Generator(np.random.SFC64(1))
            x, z = np.full(PATHS, start, f), np.empty(PATHS, f)
            for _ in range(STEPS):
                rng.standard_normal(out=z, dtype=f)
                x = step(x, z)
            return float(np.maximum(x, 0).mean(dtype=np.float64))
        return run

    def numpy_cir(x, z):
        p = np.maximum(x, 0)
        return x + f(KAPPA) * (f(THETA) - p) * dt + f(XI) * np.sqrt(p) * root * z

    def numpy_gbm(x, z):
        return x + f(MU) * x * dt + f(VOL) * x * root * z

    def numpy_exact():
        rng = np.random.Generator(np.random.SFC64(1))
        e = np.exp(-KAPPA)
        c = XI * XI * (1 - e) / (4 * KAPPA)
        return float((c * rng.noncentral_chisquare(4 * KAPPA * THETA / XI**2, X0 * e / c, PATHS)).mean())

    positive = lambda x: jnp.maximum(x, 0)  # noqa: E731
    return [
        ("CIR, Euler f32, 1e6 x 252", {
            "diffx": lambda: diffx.simulate(np, "cir", cir, dates, np.float32, True),
            "jax": jax_paths(jax_cir, X0, positive, "threefry2x32"),
            "jax rbg": jax_paths(jax_cir, X0, positive, "rbg"),
            "numpy": numpy_paths(numpy_cir, X0),
        }),
        ("GBM, Euler f32, 1e6 x 252", {
            "diffx": lambda: diffx.simulate(np, "gbm", gbm, dates, np.float32, True),
            "jax": jax_paths(jax_gbm, 1.0, positive, "threefry2x32"),
            "jax rbg": jax_paths(jax_gbm, 1.0, positive, "rbg"),
            "numpy": numpy_paths(numpy_gbm, 1.0),
        }),
        ("CIR, exact f64, 1e6 draws", {
            "diffx": lambda: diffx.simulate(np, "cir", cir, [1.0], np.float64, False),
            "numpy": numpy_exact,
        }),
    ]


def noise(threads, noise_ours, noise_peer):
    def run(program):
        words = subprocess.run([program, str(NORMALS), str(threads)], capture_output=True, text=True, check=True)
        return [float(w) for w in words.stdout.split()]
    return ("normals f32, 2^27", {
        "diffx": lambda: run(noise_ours), "c++": lambda: run(noise_peer),
    })


def measure(args):
    if args.threads == 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    rows = contestants(args.lib, args.threads)
    if args.noise:
        rows.append(noise(args.threads, args.noise, args.peer))
    print(f"\n{args.threads} thread{'s' if args.threads > 1 else ''}, medians of {args.rounds}")
    print(f"{'what':28} {'who':8} {'seconds':>9} {'CPU s':>9} {'of peer':>8} {'CPU':>6}  mean")
    for name, runs in rows:
        if args.only not in name:
            continue
        clock, cpu, mean = ({who: [] for who in runs} for _ in range(3))
        for who in runs:
            runs[who]()  # compile, touch memory
        for _ in range(args.rounds):
            for who, run in runs.items():
                t, c = time.perf_counter(), time.process_time()
                value = run()
                t, c = time.perf_counter() - t, time.process_time() - c
                if isinstance(value, list):  # another process measured itself
                    t, c, value = value
                clock[who].append(t)
                cpu[who].append(c)
                mean[who].append(value)
        ours = statistics.median(clock["diffx"]), statistics.median(cpu["diffx"])
        for who in runs:
            t, c = statistics.median(clock[who]), statistics.median(cpu[who])
            ratio = "" if who == "diffx" else f"{ours[0] / t:8.2f} {ours[1] / c:6.2f}"
            print(f"{name:28} {who:8} {t:9.4f} {c:9.4f} {ratio:>15}  {mean[who][0]:.5f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--lib", type=pathlib.Path, default=target / "release" / "libdiffx.so")
    parser.add_argument("--venv", type=pathlib.Path, default=target / "peers-venv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="rows whose name has this")
    parser.add_argument("--noise", help="program that measures our noise (cargo build --release --example noise)")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        return measure(args)
    python = args.venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", args.venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "jax[cpu]", "numpy"], check=True)
    ours = args.noise or target / "release" / "examples" / "noise"
    peer = target / "peers-noise"
    subprocess.run(["g++", "-O3", "-march=native", "-pthread", "-o", peer, HERE / "noise.cpp"], check=True)
    for threads in (2, 1):
        command = [python, __file__, "--lib", args.lib, "--rounds", str(args.rounds), "--only", args.only, "--threads", str(threads)]
        if pathlib.Path(ours).exists():
            command += ["--noise", ours, "--peer", peer]
        else:
            print(f"no noise rows: {ours} is not there (cargo build --release --example noise)")
        subprocess.run([str(c) for c in command], check=True)


if __name__ == "__main__":
    main()
