"""A fan chart of the carried model: the next 32 closes of the VIX, given the last 32. Needs matplotlib.

DIFFX_LIBRARY=target/release/libdiffx.so PYTHONPATH=bindings/python python3 examples/python/fan.py [fan.png] [samples] [seed]
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import diffx

BANDS = ((5, 95, "90 %"), (25, 75, "50 %"))


def sample(n: int, seed: int):
    """The past that the model shows, and n paths of what may follow."""
    with diffx.Engine() as engine:
        model = engine.model("vix")
        past = np.asarray(model.info["data"]["history_values"], "f4")
        paths = model.pipeline().sample(n, seed=seed, inputs={"history": past[:, None]}, progress=True)
        return past, paths.numpy(), model.info["data"]


def draw(past, paths, data, file: str) -> None:
    fig, axes = plt.subplots(figsize=(9, 4.5), dpi=150)
    before, after = np.arange(1 - len(past), 1), np.arange(paths.shape[1] + 1)
    from_last = np.hstack([np.full((len(paths), 1), past[-1]), paths])
    for (low, high, label), alpha in zip(BANDS, (0.22, 0.35)):
        a, b = np.percentile(from_last, [low, high], axis=0)
        axes.fill_between(after, a, b, color="#2f6fb0", alpha=alpha, lw=0, label=label)
    axes.plot(after, from_last[:12].T, color="#2f6fb0", lw=0.5, alpha=0.6)
    axes.plot(after, np.median(from_last, axis=0), color="#12395f", lw=1.8, label="median")
    axes.plot(before, past, color="#222222", lw=1.5, label=data.get("name", "past"))
    axes.axvline(0, color="#999999", lw=0.8, ls=":")
    axes.set(xlabel=f"trading days from {data.get('history_dates', ['?'])[-1]}", ylim=(0, None), xlim=(before[0], after[-1]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    fig.tight_layout()
    fig.savefig(file)


if __name__ == "__main__":
    words = dict(enumerate(sys.argv[1:]))
    file, n, seed = words.get(0, "fan.png"), int(words.get(1, 1000)), int(words.get(2, 1))
    past, paths, data = sample(n, seed)
    draw(past, paths, data, file)
    print(f"{file}: {len(paths)} paths, median after {paths.shape[1]} days {np.median(paths[:, -1]):.2f}")
