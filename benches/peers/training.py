"""A training step of the network `temporal` in diffx and in PyTorch on the CPU: same numbers, and whose is faster.

  python=$(benches/peers/venv numpy safetensors torch)
  cargo build --release --lib && $python benches/peers/training.py [check] [time] [compile]

`check`: weights after some steps are handed to a network written in PyTorch, with the same noise (Philox, written here
once more in numpy); loss, every gradient, the updated weights and their moving average must agree.
`time`: forward, backward, clipping, AdamW and moving average, in turns, each side in a process of its own; medians of the
clock and of CPU time, beside the rate of a matrix product in numpy. PyTorch's threads sleep when idle (OMP_WAIT_POLICY):
on a busy machine its spinning ones are ten times slower. `compile` adds torch.compile, which needs minutes to start. Batch and sizes are those of models/vix.json, and
four times its width; the process is `ve` so that PyTorch needs no Bessel functions.
"""

import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WINDOW = HISTORY = 32
BATCH = 64
SEED = 1
MEAN, STD, DROPOUT = -0.3, 1.4, 0.1
DEPTH, HEADS = 2, 4
RATE, DECAY, EMA, CLIP = 0.002, 0.05, 0.998, 1.0
TOLERANCE = 2e-5  # of the largest value of a tensor: f32 on our side, f64 on the other


def recipe(folder, width, steps, **other):
    """A recipe on a made-up positive series."""
    import numpy as np

    path = Path(folder) / "series.csv"
    if not path.exists():
        walk = np.random.default_rng(5).normal(size=2000)
        level = 18 * np.exp(0.4 * np.convolve(walk, 0.95 ** np.arange(200), "full")[:2000] / 3)
        day = np.datetime64("2001-01-01")
        path.write_text("DATE,CLOSE\n" + "".join(f"{day + i},{v:.4f}\n" for i, v in enumerate(level)))
    config = {
        "data": {"path": str(path), "column": "CLOSE", "window": WINDOW, "history": HISTORY},
        "model": {"id": "temporal", "config": {"width": width, "depth": DEPTH, "heads": HEADS}},
        "process": "ve",
        "objective": {"id": "dsm", "config": {"cond_dropout": DROPOUT, "mean": MEAN, "std": STD}},
        "steps": steps, "batch": BATCH, "rate": RATE, "warmup": 0, "schedule": "constant",
        "ema": EMA, "decay": DECAY, "clip": CLIP, "seed": SEED,
    }
    config.update(other)
    return config


# ------------------------------------------------------------------ diffx, through its C interface


class Error(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("status", ctypes.c_int32), ("source", ctypes.c_uint32),
                ("length", ctypes.c_uint32), ("message", ctypes.c_char * 496)]


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("arena", ctypes.c_uint64),
                ("device_bytes", ctypes.c_uint64), ("threads", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
                ("pointers", ctypes.c_void_p * 6)]


class Training(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("step", ctypes.c_uint64),
                ("n_steps", ctypes.c_uint64), ("loss", ctypes.c_double), ("norm", ctypes.c_double)]


class Diffx:
    def __init__(self, config, threads):
        path = os.environ.get("DIFFX_LIBRARY", ROOT / "target/release/libdiffx.so")
        self.library = ctypes.CDLL(str(path))
        self.error = Error(ctypes.sizeof(Error))
        options = Options(ctypes.sizeof(Options))
        options.threads = threads
        self.engine, self.trainer = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("engine_create", ctypes.byref(options), ctypes.byref(self.engine))
        text = json.dumps(config).encode()
        self.call("trainer_create", self.engine, text, None, ctypes.byref(self.trainer))

    def call(self, name, *args):
        if getattr(self.library, "dfx_" + name)(*args, ctypes.byref(self.error)):
            raise RuntimeError(f"{name}: {self.error.message.decode()}")

    def steps(self, n):
        out = Training(ctypes.sizeof(Training))
        self.call("trainer_step", self.trainer, ctypes.c_uint32(n), ctypes.byref(out))
        return out.loss

    def checkpoint(self, path):
        self.call("trainer_checkpoint", self.trainer, str(path).encode())


# ------------------------------------------------------------------ the noise, by its definition


def philox(counter, key):
    """Philox4x32-10 of arrays of counters [n, 4]."""
    import numpy as np

    c, k = [counter[:, i].astype(np.uint64) for i in range(4)], list(key)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p, q = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(q >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), q & low,
             (p >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, 1)


def words(n, purpose, step, ordinal):
    """The words of elements 0..n: lane e mod 4 of block e / 4."""
    import numpy as np

    blocks = np.arange(-(-n // 4), dtype=np.uint64)
    ones = np.ones_like(blocks)
    counter = np.stack([blocks, ones * (purpose << 24), ones * step, ones * (ordinal << 16)], 1)
    return philox(counter, [SEED & 0xFFFFFFFF, SEED >> 32])


def uniforms(n, *address):
    return ((words(n, *address).reshape(-1) + 0.5) / 2.0**32)[:n]


def normals(n, *address):
    import numpy as np

    w = words(n, *address)
    radius = np.sqrt(-2 * np.log(((w[:, [0, 2]] >> np.uint64(9)) + 0.5) / 2.0**23))
    angle = 2 * np.pi * w[:, [1, 3]] / 2.0**32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1)[:n]


def example(i, count):
    """Which example stands at position i of all epochs."""
    import numpy as np

    half = max(-(-(count - 1).bit_length() // 2), 1)
    mask, x = (1 << half) - 1, i % count
    while True:
        left, right = x >> half & mask, x & mask
        for r in range(6):
            counter = np.array([[right, 0, i // count, 0x4F524445 ^ r]], dtype=np.uint64)
            left, right = right, (left ^ int(philox(counter, [SEED, 0])[0, 0])) & mask
        x = left << half | right
        if x < count:
            return x


# ------------------------------------------------------------------ the network in PyTorch


def network(width, log_mean, log_std):
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self, dilation):
            super().__init__()
            self.mod = nn.Linear(width, 6 * width)
            self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
            self.conv2 = nn.Conv1d(width, width, 1)
            self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width)})

        def forward(self, h, embedding):
            m = self.mod(embedding)[:, None, :].chunk(6, -1)
            u = (F.layer_norm(h, (width,)) * (m[1] + 1) + m[0]).transpose(1, 2)
            h = h + m[2] * self.conv2(F.silu(self.conv1(u))).transpose(1, 2)
            u = F.layer_norm(h, (width,)) * (m[4] + 1) + m[3]
            rows, time, _ = u.shape
            q, k, v = self.attn["qkv"](u).view(rows, time, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, time, width)
            return h + m[5] * self.attn["out"](y)

    class Temporal(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.history = nn.Linear(1, width), nn.Linear(2, width)
            self.position = nn.Parameter(0.02 * torch.randn(HISTORY + WINDOW, width))
            self.noise = nn.ModuleDict({"fc1": nn.Linear(32, width), "fc2": nn.Linear(width, width)})
            self.blocks = nn.ModuleList(Block(1 << i % 4) for i in range(DEPTH))
            self.output_mod, self.output = nn.Linear(width, 2 * width), nn.Linear(width, 1)
            self.register_buffer("frequency", 64.0 ** (torch.arange(16) / 15.0)[None], persistent=False)

        def forward(self, x, noise, history):
            known = history > -1e8
            level = torch.where(known, (torch.where(known, history, 1.0).log() - log_mean) / log_std
                                if self.log else (torch.where(known, history, 1.0) - log_mean) / log_std, 0.0)
            past = self.history(torch.cat([level, known.to(level.dtype)], -1))
            h = torch.cat([past, self.input(x[:, :, None])], 1) + self.position
            angle = noise[:, None] * self.frequency
            e = F.silu(self.noise["fc1"](torch.cat([angle.cos(), angle.sin()], -1)))
            e = F.silu(self.noise["fc2"](e))
            for block in self.blocks:
                h = block(h, e)
            shift, scale = self.output_mod(e)[:, None, :].chunk(2, -1)
            h = F.layer_norm(h[:, HISTORY:], (width,)) * (scale + 1) + shift
            return self.output(h)[:, :, 0]

    net = Temporal()
    net.log = False
    return net


def loss_of(net, x0, history, sigma, xi, variance):
    """Denoising score matching with EDM's preconditioning and weight."""
    w = x0 + sigma * xi
    total = sigma.square() + variance
    scale = total.rsqrt()
    out = sigma * variance**0.5 * scale
    d = variance / total * w + out * net(scale * w, 0.25 * sigma[:, 0].log(), history)
    return (total / (sigma.square() * variance) * (d - x0).square()).mean()


class Torch:
    """The same step as a PyTorch user writes it, with the fused AdamW."""

    def __init__(self, width, threads, compiled):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(SEED)
        self.torch, self.net = torch, network(width, 18.0, 6.0)
        params = list(self.net.parameters())
        self.params = params
        groups = [{"params": [p for p in params if p.dim() > 1], "weight_decay": DECAY},
                  {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
        self.ema = [p.detach().clone() for p in params]
        self.loss = torch.compile(self.draw_and_loss) if compiled else self.draw_and_loss
        self.x0 = 18 + 6 * torch.randn(4000, WINDOW)
        self.past = 18 + 6 * torch.randn(4000, HISTORY, 1)

    def draw_and_loss(self, x0, past):
        torch = self.torch
        sigma = (torch.randn(BATCH, 1) * STD + MEAN).exp() * 6.0
        history = torch.where(torch.rand(BATCH, 1, 1) < DROPOUT, -1e9, past)
        return loss_of(self.net, x0, history, sigma, torch.randn(BATCH, WINDOW), 36.0)

    def steps(self, n):
        torch = self.torch
        for _ in range(n):
            rows = torch.randint(4000, (BATCH,))
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(self.x0[rows], self.past[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.params, CLIP, foreach=True)
            self.optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(self.ema, self.params, 1 - EMA)
            value = loss.item()
        return value


# ------------------------------------------------------------------ same numbers


def check(width):
    import numpy as np
    import torch
    from safetensors import safe_open

    with tempfile.TemporaryDirectory() as folder:
        config = recipe(folder, width, 100, clip=0, rate=0.01)
        ours = Diffx(config, 2)
        ours.steps(24)
        ours.checkpoint(f"{folder}/before")
        loss = ours.steps(1)
        ours.checkpoint(f"{folder}/after")
        with safe_open(f"{folder}/before", "np") as f:
            before = {k: f.get_tensor(k).astype(np.float64) for k in f.keys()}
            manifest = json.loads(f.metadata()["diffx"])
        with safe_open(f"{folder}/after", "np") as f:
            after = {k: f.get_tensor(k).astype(np.float64) for k in f.keys()}
        series = np.loadtxt(config["data"]["path"], delimiter=",", skiprows=1, usecols=1)

    stats = manifest["components"][0]["stats"]
    center = manifest["components"][0]["process"]["config"]["center"]
    settings = manifest["model"]["config"]
    variance = stats["w_var"]
    names = {n: n.removeprefix("raw/") for n in before if n.startswith("raw/")}
    prefix = "base/" if all(n.startswith("base/") for n in names.values()) else ""
    net = network(width, settings["history_mean"], settings["history_std"]).double()
    net.log = settings.get("history_log", False)
    weights = {names[n].removeprefix(prefix): torch.tensor(before[n]) for n in names}
    net.load_state_dict(weights)

    # the batch of the 25th step, cut from the series
    count = len(series) - WINDOW - HISTORY + 1
    starts = [HISTORY + example(24 * BATCH + b, count) for b in range(BATCH)]
    cut = lambda lo, hi: torch.tensor(np.stack([series[s + lo:s + hi] for s in starts]).astype("f4").astype("f8"))
    x0, past = cut(0, WINDOW) - center, cut(-HISTORY, 0)[:, :, None]
    level, data = 3, 4
    sigma = np.exp(normals(BATCH, level, 25, 0) * STD + MEAN) * variance**0.5
    dropped = torch.tensor(uniforms(BATCH, level, 25, 1) < DROPOUT)
    xi = torch.tensor(normals(BATCH * WINDOW, data, 25, 0)).view(BATCH, WINDOW)
    history = torch.where(dropped[:, None, None], -1e9, past)
    theirs = loss_of(net, x0, history, torch.tensor(sigma)[:, None], xi, variance)
    theirs.backward()

    print(f"width {width}: loss {loss:.7f}, in PyTorch (f64) {theirs.item():.7f}")
    worst = {"loss": abs(loss / theirs.item() - 1)}
    t, rate = 25, 0.01
    ema_decay = min(EMA, (1 + t) / (10 + t))
    for name, p in net.named_parameters():
        key = prefix + name
        g = p.grad.numpy()
        ours_g = (after[f"adam_m/{key}"] - 0.9 * before[f"adam_m/{key}"]) / 0.1
        # the update starts from our moments: where a gradient is 0 (the bias of the keys), Adam would divide noise by noise
        m, v = after[f"adam_m/{key}"], after[f"adam_v/{key}"]
        v_here = 0.999 * before[f"adam_v/{key}"] + 0.001 * g * g
        direction = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = before[f"raw/{key}"]
        w = w - rate * (direction + (DECAY * w if w.ndim > 1 else 0))
        ema = before[f"ema/{key}"] + (1 - ema_decay) * (w - before[f"ema/{key}"])
        for what, a, b in [("gradient", ours_g, g), ("moment", v, v_here), ("weight", after[f"raw/{key}"], w),
                           ("average", after[f"ema/{key}"], ema)]:
            error = np.abs(a - b).max() / np.abs(b).max()
            worst[what] = max(worst.get(what, 0), error)
            if not error < TOLERANCE:
                print(f"  {what} of {name}: off by {error:.2e} of its largest value")
    print("  largest errors: " + ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
    return all(v < TOLERANCE for v in worst.values())


# ------------------------------------------------------------------ who is faster


def worker(kind, width, threads):
    """Reads a number of steps per line, answers with milliseconds per step: by the clock, and of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "diffx":
            step = Diffx(recipe(folder, width, 1_000_000), threads).steps
        else:
            step = Torch(width, threads, kind == "torch.compile").steps
        step(5)
        print("ready", flush=True)
        for line in sys.stdin:
            n = int(line)
            clock, cpu = time.perf_counter(), time.process_time()
            step(n)
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            print(clock / n * 1e3, cpu / n * 1e3, flush=True)


def gemm_rate():
    """GFLOP per second of CPU: what this machine gives at the moment."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
    import numpy as np

    a, times = np.ones((512, 512), "f4"), []
    for _ in range(9):
        start = time.process_time()
        a @ a
        times.append(time.process_time() - start)
    return 2 * 512**3 / statistics.median(times) * 1e-9


def race(width, threads, kinds, rounds=11, each=4):
    children, times = {}, {}
    environment = dict(os.environ, OMP_WAIT_POLICY="passive", OMP_NUM_THREADS=str(threads))
    for kind in kinds:
        child = subprocess.Popen([sys.executable, __file__, "--worker", kind, str(width), str(threads)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                 env=environment)
        answer = child.stdout.readline().strip()
        if answer == "ready":
            children[kind], times[kind] = child, []
        else:
            print(f"  skipped: {kind} does not run here ({answer})")
    for _ in range(rounds):
        for kind, child in children.items():
            child.stdin.write(f"{each}\n")
            child.stdin.flush()
            times[kind].append([float(v) for v in child.stdout.readline().split()])
            time.sleep(0.05)  # a spinning team of the other side goes to sleep
    for child in children.values():
        child.stdin.close()
        child.wait()
    ours = times["diffx"]
    print(f"width {width}, batch {BATCH}, {threads} thread{'s' if threads > 1 else ''}; load"
          f" {os.getloadavg()[0]:.1f}, matrix product {gemm_rate():.0f} GFLOP/s", flush=True)
    for kind, rows in times.items():
        clock, cpu = (statistics.median(r[i] for r in rows) for i in (0, 1))
        ratio, cpu_ratio = (statistics.median(a[i] / b[i] for a, b in zip(ours, rows)) for i in (0, 1))
        print(f"  {kind:14} {clock:8.2f} ms by the clock, {cpu:8.2f} ms of CPU;"
              f" diffx takes {ratio:.2f} and {cpu_ratio:.2f} times that", flush=True)


def main(words_):
    if words_[:1] == ["--worker"]:
        return worker(words_[1], int(words_[2]), int(words_[3]))
    good = True
    if not words_ or "check" in words_:
        good = all([check(32), check(128)])
    if not words_ or "time" in words_:
        kinds = ["diffx", "torch"] + ["torch.compile"] * ("compile" in words_)
        for threads in (1, 2):
            for width in (32, 128):
                race(width, threads, kinds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
