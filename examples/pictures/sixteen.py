"""One network, one sampler, one budget, five laws of noise: tiles at 16 x 16.

    python examples/pictures/sixteen.py ../shared/data/tiles features.npz OUT [steps [diffx]]

writes the tiles as tables into the folder OUT, trains each law for so many steps (9000, about 18 minutes of one
core; a run that was stopped goes on), draws 2048 samples of each with the tiles' own shares of the classes, and writes
OUT/table.md and a strip OUT/NAME.png of each. Processes of positive data get the pictures as numbers from 0.1 to 1; the
others the same numbers, so that all see one table. Scores are those of `score.py`, over features of the pictures enlarged
to 32 x 32, beside the tiles reduced and enlarged in the same way.
"""

import json
import os
import struct
import subprocess
import sys
import time

import numpy as np

from features import features
from score import frechet, kid
from tiles import strip, tiles

LOWEST = 0.1
SAMPLES = 2048
SIDE = 16
# what a process's own papers draw levels from; all else is the same
FLOW = {"levels": "logit_normal", "weight": "velocity"}
LAWS = {
    "ve": ("ve", {}),
    "flow": ("flow", FLOW),
    "gbm": ("gbm", {}),
    "besq3": ({"id": "besq", "config": {"delta": 3}}, {}),
    "pfgmpp": ({"id": "pfgmpp", "config": {"augmented": 128}}, {}),
}


def write(path, tables):
    """A safetensors file."""
    header, at = {}, 0
    for name, table in tables.items():
        kind = {"float32": "F32", "int32": "I32"}[table.dtype.name]
        header[name] = {"dtype": kind, "shape": table.shape, "data_offsets": [at, at + table.nbytes]}
        at += table.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for table in tables.values():
            file.write(np.ascontiguousarray(table).tobytes())


def recipe(process, objective, out, steps, classes):
    config = {"input_size": SIDE, "patch_size": 2, "in_channels": 4, "hidden_size": 96, "depth": 5, "num_heads": 3}
    config |= {"num_classes": classes, "learn_sigma": False, "time_scale": 250}
    return {
        "data": {"path": os.path.abspath(f"{out}/tiles.safetensors"), "name": "Tiles at 16 x 16"},
        "model": {"id": "dit_original", "config": config},
        "process": process,
        "objective": {"id": "dsm", "config": {"cond_dropout": 0.1, **objective}},
        "sampler": "heun",
        "grid": "edm",
        "sample_steps": 24,
        "steps": steps,
        "batch": 32,
        "rate": 0.001,
        "warmup": 200,
        "schedule": "late",
        "ema": 0.999,
        "seed": 1,
    }


def pictures(path):
    x = (np.load(path).astype(np.float32) - LOWEST) / (1 - LOWEST)
    finite = np.isfinite(x).all(axis=(1, 2, 3))
    x = np.clip(np.nan_to_num(x).transpose(0, 2, 3, 1), 0, 1)
    x[..., :3] = np.minimum(x[..., :3], x[..., 3:])
    return x, 1 - finite.mean()


def main(root, weights, out, steps=9000, diffx="diffx"):
    os.makedirs(out, exist_ok=True)
    x, labels, _, classes = tiles(root)
    weights = {k: v for k, v in np.load(weights).items() if k != "classes"}
    small = x.reshape(len(x), SIDE, 2, SIDE, 2, 4).mean((2, 4))
    table = (LOWEST + (1 - LOWEST) * small).transpose(0, 3, 1, 2).astype(np.float32)
    write(f"{out}/tiles.safetensors", {"x": table, "label": labels.astype(np.int32)})
    shares = labels[np.arange(SAMPLES) * len(labels) // SAMPLES].astype(np.int32)
    write(f"{out}/conds.safetensors", {"class_labels": shares})
    large = lambda y: y.repeat(2, 1).repeat(2, 2)
    real = features(weights, large(small))
    half = np.random.default_rng(2).permutation(len(x))
    floor = (real[half[::2]], real[half[1::2]])
    lines = ["| law | seconds of training | Frechet | 1000 KID | not finite |", "|---|---|---|---|---|"]
    lines.append(f"| tiles, two halves | | {frechet(*floor):.2f} | {1000 * kid(*floor):.2f} | |")
    for name, (process, objective) in LAWS.items():
        path = f"{out}/{name}"
        with open(f"{path}.json", "w") as file:
            json.dump(recipe(process, objective, out, int(steps), len(classes)), file, indent=1)
        started = time.time()
        if not os.path.exists(f"{path}.safetensors"):
            words = ["train", f"{path}.json", "-o", f"{path}.safetensors", "--resume"]
            subprocess.run([diffx, *words], check=True)
        seconds = time.time() - started
        words = ["sample", f"{path}.safetensors", "--cond", f"{out}/conds.safetensors", "-n", str(SAMPLES)]
        subprocess.run([diffx, *words, "-o", f"{path}.npy"], check=True)
        y, broken = pictures(f"{path}.npy")
        found = features(weights, large(y))
        lines.append(
            f"| {name} | {seconds:.0f} | {frechet(found, real):.2f} | {1000 * kid(found, real):.2f} | {broken:.1%} |"
        )
        strip([y[:: SAMPLES // 24][:24]], f"{path}.png")
        print(lines[-1], flush=True)
    with open(f"{out}/table.md", "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 6:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
