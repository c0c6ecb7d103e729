"""How far samples are from the tiles: Frechet distance and KID over the features of `features.py`.

    python examples/pictures/score.py conds ../shared/data/tiles 2048 conds.safetensors
    diffx sample MODEL --cond conds.safetensors -n 2048 -o samples.npy
    python examples/pictures/score.py ../shared/data/tiles features.npz samples.npy ...

The first writes the classes of so many tiles, spread over all of them, so that samples have the tiles' own shares of the
classes. The last compares with all tiles, beside two lines that say what a number means: tiles with tiles (two random
halves), and samples of the normal law of pixels with the tiles' mean and covariance. Both distances depend on the number
of samples (the first much, KID hardly), which is why it stands beside them.
"""

import json
import struct
import sys

import numpy as np

from features import features
from tiles import samples, tiles


def frechet(a, b):
    """|mean a - mean b|^2 + tr(A + B - 2 sqrt(A B)) of two sets of features."""
    A, B = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(A)
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    root = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ B @ half), 0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A) + np.trace(B) - 2 * root


def kid(a, b):
    """The unbiased estimate of the squared MMD under the kernel (x y / d + 1)^3 (Binkowski et al. 2018)."""
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    aa, bb, n, m = kernel(a, a), kernel(b, b), len(a), len(b)
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return within - 2 * kernel(a, b).mean()


def bootstrap(a, b, rounds=20, seed=0):
    """Standard deviation of KID over halves of the samples, scaled to all of them."""
    rng = np.random.default_rng(seed)
    found = [kid(a[rng.permutation(len(a))[: len(a) // 2]], b) for _ in range(rounds)]
    return np.std(found) / np.sqrt(2)


def write_conds(root, count, out):
    _, labels, _, classes = tiles(root)
    rows = np.arange(count) * len(labels) // count
    label = labels[rows].astype("<i4")
    header = json.dumps(
        {"class_labels": {"dtype": "I32", "shape": [count], "data_offsets": [0, label.nbytes]}}
    ).encode()
    header += b" " * (-len(header) % 8)
    with open(out, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + label.tobytes())


def normal_law(x, count, seed=0):
    """Samples of the normal law of the pixels, as pictures."""
    rng = np.random.default_rng(seed)
    flat = x.reshape(len(x), -1)
    centred = (flat - flat.mean(0)) / np.sqrt(len(x) - 1)
    out = rng.standard_normal((count, len(x))).astype(np.float32) @ centred + flat.mean(0)
    out = np.clip(out.reshape(count, *x.shape[1:]), 0, 1)
    out[..., :3] = np.minimum(out[..., :3], out[..., 3:])
    return out


def main(root, weights, files):
    weights = {k: v for k, v in np.load(weights).items() if k != "classes"}
    x, *_ = tiles(root)
    real = features(weights, x)
    order = np.random.default_rng(2).permutation(len(x))
    half = len(x) // 2
    rows = [("tiles, two halves", real[order[:half]], real[order[half:]])]
    rows.append(("normal law of pixels", features(weights, normal_law(x, 2048)), real))
    rows += [(path, features(weights, samples(path)), real) for path in files]
    print(f"{'':32} {'samples':>8} {'Frechet':>9} {'1000 KID':>9}  +-")
    for name, a, b in rows:
        spread = bootstrap(a, b)
        print(f"{name:32} {len(a):8} {frechet(a, b):9.3f} {1000 * kid(a, b):9.2f} {1000 * spread:5.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "conds":
        write_conds(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    elif len(sys.argv) > 3:
        main(sys.argv[1], sys.argv[2], sys.argv[3:])
    else:
        raise SystemExit(__doc__)
