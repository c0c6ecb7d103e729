"""A small classifier of tiles and its features, in numpy: three convolutions that halve, two layers, 34 classes.

    python examples/pictures/features.py ../shared/data/tiles features.npz

trains it on nine tenths of the tiles (with reflections and shifts), says how many of the rest it knows, and writes its
weights. `features(weights, x)` are the 64 values before the last layer: what `score.py` compares laws by, and
`neighbours.py` distances.
"""

import sys

import numpy as np

from tiles import tiles

WIDTHS = (4, 24, 48, 64)
FEATURES = 64


def patches(x):
    """[n, h, w, c] to [n, h/2, w/2, 16 c]: 4 x 4 windows two apart, with one zero around."""
    n, h, w, c = x.shape
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    s = x.strides
    view = np.lib.stride_tricks.as_strided(
        x, (n, h // 2, w // 2, 4, 4, c), (s[0], 2 * s[1], 2 * s[2], s[1], s[2], s[3])
    )
    return view.reshape(n, h // 2, w // 2, 16 * c)


def unpatch(g, shape):
    """The gradient of `patches`."""
    n, h, w, c = shape
    out = np.zeros((n, h + 2, w + 2, c), g.dtype)
    g = g.reshape(n, h // 2, w // 2, 4, 4, c)
    for i in range(4):
        for j in range(4):
            out[:, i : i + h : 2, j : j + w : 2] += g[:, :, :, i, j]
    return out[:, 1:-1, 1:-1]


def start(side, classes, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(16 * a, b) for a, b in zip(WIDTHS, WIDTHS[1:])]
    sizes += [((side // 8) ** 2 * WIDTHS[-1], FEATURES), (FEATURES, classes)]
    weights = {}
    for i, (a, b) in enumerate(sizes):
        weights[f"w{i}"] = (rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32)
        weights[f"b{i}"] = np.zeros(b, np.float32)
    return weights


def forward(weights, x):
    """Logits, features and what `backward` needs."""
    kept = []
    for i in range(3):
        p = patches(x)
        y = p @ weights[f"w{i}"] + weights[f"b{i}"]
        kept.append((p, x.shape, y > 0))
        x = np.maximum(y, 0)
    flat = x.reshape(len(x), -1)
    h = flat @ weights["w3"] + weights["b3"]
    kept.append((flat, x.shape, h > 0))
    features = np.maximum(h, 0)
    return features @ weights["w4"] + weights["b4"], features, kept


def backward(weights, g, features, kept):
    grads = {"w4": features.T @ g, "b4": g.sum(0)}
    flat, shape, on = kept[3]
    g = (g @ weights["w4"].T) * on
    grads |= {"w3": flat.T @ g, "b3": g.sum(0)}
    g = (g @ weights["w3"].T).reshape(shape)
    for i in (2, 1, 0):
        p, shape, on = kept[i]
        g = g * on
        flat = g.reshape(-1, g.shape[-1])
        grads |= {f"w{i}": p.reshape(-1, p.shape[-1]).T @ flat, f"b{i}": flat.sum(0)}
        if i:
            g = unpatch(g @ weights[f"w{i}"].T, shape)
    return grads


def features(weights, x, batch=256):
    """In units of their deviation over the tiles."""
    pieces = [forward(weights, x[i : i + batch])[1] for i in range(0, len(x), batch)]
    return np.concatenate(pieces).astype(np.float64) / weights["scale"]


def varied(x, rng):
    """Reflections and shifts by up to two pixels."""
    out = np.empty_like(x)
    for i, picture in enumerate(x):
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        dy, dx = rng.integers(-2, 3, 2)
        out[i] = np.roll(picture, (dy, dx), (0, 1))
    return out


def train(x, labels, classes, epochs=14, batch=64, rate=1e-3, seed=0, say=print):
    rng = np.random.default_rng(seed)
    weights = start(x.shape[1], classes, seed)
    m = {k: np.zeros_like(v) for k, v in weights.items()}
    v = {k: np.zeros_like(w) for k, w in weights.items()}
    steps, t = epochs * (len(x) // batch), 0
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        loss = 0.0
        for at in range(0, len(x) // batch * batch, batch):
            rows = order[at : at + batch]
            logits, feats, kept = forward(weights, varied(x[rows], rng))
            logits -= logits.max(1, keepdims=True)
            p = np.exp(logits)
            p /= p.sum(1, keepdims=True)
            loss -= np.log(p[np.arange(batch), labels[rows]] + 1e-12).mean()
            p[np.arange(batch), labels[rows]] -= 1
            grads = backward(weights, p / batch, feats, kept)
            t += 1
            now = rate * 0.5 * (1 + np.cos(np.pi * t / steps))
            for k, g in grads.items():
                m[k] = 0.9 * m[k] + 0.1 * g
                v[k] = 0.999 * v[k] + 0.001 * g * g
                step = m[k] / (1 - 0.9**t) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
                weights[k] -= (now * (step + 1e-2 * weights[k])).astype(np.float32)
        say(f"epoch {epoch + 1}: loss {loss / (len(x) // batch):.3f}")
    return weights


def main(root, out):
    x, labels, _, classes = tiles(root)
    order = np.random.default_rng(1).permutation(len(x))
    test, rest = order[: len(x) // 10], order[len(x) // 10 :]
    weights = train(x[rest], labels[rest], len(classes))
    known = np.argmax(forward(weights, x[test])[0], 1) == labels[test]
    commonest = np.bincount(labels).max() / len(labels)
    print(f"knows {known.mean():.1%} of {len(test)} tiles it has not seen ({commonest:.1%} by the commonest class)")
    weights["scale"] = np.float64(1)
    weights["scale"] = features(weights, x).std()
    np.savez(out, classes=np.array(classes), **weights)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
