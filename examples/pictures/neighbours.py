"""Whether a model copies: samples, each beside the tiles that are nearest to it.

    python examples/pictures/neighbours.py ../shared/data/tiles samples.npy neighbours.png

A row is two groups of a sample and its four nearest tiles or reflections of tiles, by the root of the mean squared
difference of pixels. It also prints how near the nearest is, beside the same for tiles among themselves: copies would be
much nearer to a tile than tiles are to each other.
"""

import sys

import numpy as np

from tiles import samples, strip, tiles

NEAREST, ROWS = 4, 12


def distances(a, b):
    """Root mean squared difference of all pairs."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0) / a.shape[1])


def main(root, path, out):
    x, *_ = tiles(root)
    y = samples(path)
    both = np.concatenate([x, x[:, :, ::-1]])
    d = distances(y, both)
    among = distances(x, both)
    index = np.arange(len(x))
    among[index, index] = among[index, index + len(x)] = np.inf  # neither itself nor its own reflection
    for name, nearest in (("samples to tiles", d.min(1)), ("tiles to other tiles", among.min(1))):
        low, middle, high = np.quantile(nearest, [0.05, 0.5, 0.95])
        exact = (nearest < 0.02).mean()
        print(f"{name:22} 5 %: {low:.3f}  median: {middle:.3f}  95 %: {high:.3f}  below 0.02: {exact:.1%}")
    chosen = np.linspace(0, len(y) - 1, 2 * ROWS).astype(int)
    groups = [[y[i], None, *both[np.argsort(d[i])[:NEAREST]]] for i in chosen]
    strip([a + [None] + b for a, b in zip(groups[::2], groups[1::2])], out, scale=2)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
