"""The picture laws.svg: histograms of guided samples beside the laws they should have, where those are known in closed form.

    python3 docs/guidance/laws.py target/release/diffx docs/guidance/laws.svg

The network is `null`, which is exact for normal data under `ve` and for Gamma data under `besq`; standard library only.
"""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile

N, BINS, W, H = 16384, 56, 250, 150


def phi(z):
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def above(z):
    return 0.5 * math.erfc(z / math.sqrt(2))


def normal(mean, var):
    return lambda x: phi((x - mean) / math.sqrt(var)) / math.sqrt(var)


def tail(a):
    return lambda x: phi(x) / above(a) if x >= a else 0.0


def model(folder, process, stats):
    """A model file of the network null."""
    part = {"name": "x", "dims": [1], "process": process, "stats": stats}
    manifest = {"format": 1, "model": {"id": "null"}, "components": [part]}
    head = json.dumps({"__metadata__": {"diffx": json.dumps(manifest)}}).encode()
    head += b" " * (-len(head) % 8)
    path = os.path.join(folder, process["id"] + ".safetensors")
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
    return path


def sample(diffx, path, folder, sampler, guidance):
    """Samples, and where the model weighs them their log weights."""
    out = os.path.join(folder, "out.safetensors")
    call = [diffx, "sample", path, "-n", str(N), "--batch", "4096", "--steps", "80", "--seed", "11"]
    call += ["--dtype", "f64", "--sampler", sampler, "--grid", 'geometric:{"to_zero":false}', "-o", out]
    for g in guidance:
        call += ["--guidance", g]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(out, "rb") as f:
        raw = f.read()
    size = struct.unpack("<Q", raw[:8])[0]
    lo, hi = json.loads(raw[8 : 8 + size])["x"]["data_offsets"]
    return struct.unpack(f"<{(hi - lo) // 8}d", raw[8 + size + lo : 8 + size + hi])


def panel(at, title, x, law, lo, hi):
    """One picture: bars of the samples, a line of the law."""
    left, top = at
    width = (hi - lo) / BINS
    count = [0] * BINS
    for v in x:
        i = int((v - lo) / width)
        if lo <= v and i < BINS:
            count[i] += 1
    bars = [c / (len(x) * width) for c in count]
    points = [(lo + (hi - lo) * i / 400) for i in range(401)]
    line = [law(p) for p in points]
    most = 1.25 * max(line)
    place = lambda p, d: (left + W * (p - lo) / (hi - lo), top + H - H * min(d / most, 1.0))
    out = [f'<text x="{left}" y="{top - 6}">{title}</text>']
    for i, d in enumerate(bars):
        a, y = place(lo + i * width, d)
        out.append(
            f'<rect x="{a:.1f}" y="{y:.1f}" width="{W / BINS:.2f}" height="{top + H - y:.1f}" fill="#9db8d2"/>'
        )
    dots = " ".join("%.1f,%.1f" % place(p, d) for p, d in zip(points, line))
    out.append(f'<polyline points="{dots}" fill="none" stroke="#b03030" stroke-width="1.5"/>')
    out.append(f'<path d="M{left} {top + H}h{W}" stroke="#444"/>')
    out.append(f'<text x="{left}" y="{top + H + 13}">{lo:g}</text>')
    out.append(f'<text x="{left + W}" y="{top + H + 13}" text-anchor="end">{hi:g}</text>')
    return out


def main(diffx, picture):
    g = lambda name, **settings: name + ":" + json.dumps(settings)
    cut = tail(1.5)
    free = normal(0, 1)
    sde, ode, plain = "sde_dpmpp_2m", "heun", "ancestral"
    drawn = dict(redraws=0)
    steer = g("steer", reward="x", scale=2, particles=64, finish="draw")
    disc = g("doob", event="x >= 16", h="gamma", dimension=2, mean=2)
    outside = lambda x: 0.5 * math.exp(-0.5 * (x - 16)) if x >= 16 else 0.0
    dps = lambda form: g("dps", at=[0], values=[1.2], noise=0.25, form=form)
    # title, process, sampler, guidance, exact law, range
    rows = [
        ("reject: x &gt;= 1.5", 0, sde, [g("reject", event="x >= 1.5")], cut, 1, 4),
        ("doob: x &gt;= 1.5", 0, sde, [g("doob", event="x >= 1.5")], cut, 1, 4),
        ("doob: x &gt;= 4, P = 3e-5", 0, sde, [g("doob", event="x >= 4")], tail(4), 3.9, 5.2),
        ("doob, strength 2: wrong", 0, sde, [g("doob", event="x >= 1.5", strength=2, **drawn)], cut, 1, 4),
        ("doob, gamma: outside of a disc", 1, plain, [disc], outside, 15, 30),
        ("steer: tilted by exp(2x)", 0, plain, [steer], normal(2, 1), -2, 6),
        ("dps, corrected", 0, ode, [dps("corrected")], normal(0.96, 0.2), -1, 3),
        ("dps, plain: wrong", 0, ode, [dps("plain")], normal(0.96, 0.2), -1, 3),
        ("project at the end: an atom", 0, sde, [g("project", low=1.5, when="end")], cut, 1, 4),
        ("project by reflection: wrong", 0, sde, [g("project", low=1.5, when="reflect")], cut, 1, 4),
        ("no guidance", 0, sde, [], free, -4, 4),
    ]
    out = []
    with tempfile.TemporaryDirectory() as folder:
        stats = {"x_mean": 0, "x_var": 1, "w_mean": 0, "w_var": 1}
        root = {"x_mean": 2, "x_var": 4, "w_mean": 1.253, "w_var": 0.43}
        besq = {"id": "besq", "config": {"delta": 2}}
        models = [model(folder, {"id": "ve"}, stats), model(folder, besq, root)]
        for i, (title, of, sampler, guidance, law, lo, hi) in enumerate(rows):
            x = sample(diffx, models[of], folder, sampler, guidance)
            out += panel((15 + (W + 25) * (i % 4), 25 + (H + 45) * (i // 4)), title, x, law, lo, hi)
    size = f'width="{15 + 4 * (W + 25)}" height="{3 * (H + 45)}"'
    style = 'font-family="sans-serif" font-size="12"'
    with open(picture, "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n')
        f.write('<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
