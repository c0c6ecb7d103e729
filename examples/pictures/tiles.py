"""The tiles and samples of them as arrays: RGBA in [0, 1], colours multiplied by alpha, [n, height, width, 4].

Reads what `diffx train` reads and what `diffx sample -o FILE.npy` writes. Needs numpy and Pillow.
"""

import os

import numpy as np
from PIL import Image

BACK = np.array([0x24, 0x29, 0x30], np.float32) / 255  # behind clear pixels, as the command draws them


def tiles(root):
    """Pictures, labels and paths below `root`, in the order of `diffx train`; and the names of the classes."""
    classes = sorted(d for d in os.listdir(root) if os.path.isdir(os.path.join(root, d)))
    pictures, labels, paths = [], [], []
    for label, name in enumerate(classes):
        for file in sorted(os.listdir(os.path.join(root, name))):
            if not file.lower().endswith(".png"):
                continue
            rgba = np.asarray(Image.open(os.path.join(root, name, file)).convert("RGBA"))
            rgba = rgba.astype(np.float32) / 255
            rgba[..., :3] *= rgba[..., 3:]
            pictures.append(rgba)
            labels.append(label)
            paths.append(f"{name}/{file}")
    return np.stack(pictures), np.array(labels), paths, classes


def samples(path):
    """Samples [n, 4, height, width] in [-1, 1], as a model of `premultiplied` pictures with channels first gives them."""
    x = np.load(path).astype(np.float32)
    if x.ndim != 4 or x.shape[1] != 4:
        raise SystemExit(f"{path}: is {x.shape}, want [n, 4, height, width]")
    x = np.clip((x.transpose(0, 2, 3, 1) + 1) / 2, 0, 1)
    x[..., :3] = np.minimum(x[..., :3], x[..., 3:])
    return np.round(x * 255) / 255  # as a PNG has them


def shown(x):
    """RGB on the dark square."""
    return x[..., :3] + (1 - x[..., 3:]) * BACK


def strip(rows, path, scale=3, gap=6):
    """Rows of pictures as one PNG, enlarged without smoothing; None leaves a place empty."""
    size = next(p for row in rows for p in row if p is not None).shape[0]
    step = size * scale + gap
    page = np.ones((gap + len(rows) * step, gap + max(map(len, rows)) * step, 3), np.float32)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                big = shown(picture).repeat(scale, 0).repeat(scale, 1)
                top, left = gap + y * step, gap + x * step
                page[top : top + size * scale, left : left + size * scale] = big
    Image.fromarray((page * 255).round().astype(np.uint8)).save(path)
