"""The networks of plugins/models once more, in NumPy and f64, with weights by a formula: prints the rows of rows.json.

Each was compared with the reference it is named after (the oracle's checkpoints) before its numbers were taken.
    python3 tests/networks/reference.py > tests/networks/rows.json
"""
import json
import math
from math import erf

import numpy as np


def formula(name, shape):
    """Numbers in [-0.5, 0.5) by a name and a place: 32-bit FNV-1a of the name plus (place + 1) times 2654435761."""
    h = 0x811C9DC5
    for c in name.encode():
        h = ((h ^ c) * 0x01000193) & 0xFFFFFFFF
    i = np.arange(int(np.prod(shape)), dtype=np.uint64)
    v = (np.uint64(h) + (i + np.uint64(1)) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    return (v / 2**32 - 0.5).astype(np.float32).astype(np.float64).reshape(shape)


def w(name, *shape):
    return formula(name, shape)


def linear(name, x, inputs, outputs, bias=True):
    y = x @ w(f"{name}.weight", outputs, inputs).T
    return y + w(f"{name}.bias", outputs) if bias else y


def conv1(name, x, inputs, outputs):
    weight = w(f"{name}.weight", outputs, inputs, 1)[:, :, 0]
    return np.einsum("oi,bil->bol", weight, x) + w(f"{name}.bias", outputs)[None, :, None]


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(x, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def layer_norm(name, x):
    return norm(x, 1e-5) * w(f"{name}.weight", x.shape[-1]) + w(f"{name}.bias", x.shape[-1])


def rms_norm(name, x, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w(f"{name}.weight", x.shape[-1])


def split(x, heads):
    rows, time, width = x.shape
    return x.reshape(rows, time, heads, width // heads).transpose(0, 2, 1, 3)


def attend(q, k, v):
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    p = np.exp(scores - scores.max(-1, keepdims=True))
    y = (p / p.sum(-1, keepdims=True)) @ v
    rows, heads, time, depth = y.shape
    return y.transpose(0, 2, 1, 3).reshape(rows, time, heads * depth)


def thirds(x, heads):
    return attend(*[split(part, heads) for part in np.split(x, 3, axis=-1)])


def waves(t, width, shift):
    """Cosines, then sines (and a 0 where the width is odd), with the frequencies and angles of f32."""
    half, f = width // 2, np.float32
    exponent = f(-math.log(1e4)) * np.arange(half, dtype=f) / f(half - shift)
    angle = np.asarray(t, f)[:, None] * np.exp(exponent.astype(np.float64)).astype(f)
    angle = angle.astype(np.float64)
    return np.concatenate([np.cos(angle), np.sin(angle), np.zeros((len(angle), width % 2))], 1)


def positions(side, width):
    omega = 1e4 ** (-np.arange(width // 4) / (width // 4))
    row, column = np.divmod(np.arange(side * side), side)
    parts = [f(p[:, None] * omega) for p in (column, row) for f in (np.sin, np.cos)]
    return np.concatenate(parts, 1)


def patches(name, x, p, width):
    rows, c, h, _ = x.shape
    s = h // p
    x = x.reshape(rows, c, s, p, s, p).transpose(0, 2, 4, 1, 3, 5).reshape(rows, s * s, c * p * p)
    return x @ w(f"{name}.weight", width, c, p, p).reshape(width, -1).T + w(f"{name}.bias", width)


def unpatch(y, s, p, c):
    y = y.reshape(len(y), s, s, p, p, c).transpose(0, 5, 1, 3, 2, 4)
    return y.reshape(len(y), c, s * p, s * p)


def modulation(name, e, width, count):
    return [m[:, None] for m in np.split(linear(name, e, width, count * width), count, axis=1)]


def dit(c, x, t, class_labels):
    heads, p = c["num_attention_heads"], c["patch_size"]
    d, s = heads * c["attention_head_dim"], c["sample_size"] // p
    rows = c["num_embeds_ada_norm"] + 1

    def embedding(i):
        name = f"transformer_blocks.{i}.norm1.emb"
        e = silu(linear(f"{name}.timestep_embedder.linear_1", waves(t, 256, 1), 256, d))
        e = linear(f"{name}.timestep_embedder.linear_2", e, d, d)
        return silu(e + w(f"{name}.class_embedder.embedding_table.weight", rows, d)[class_labels])

    z = patches("pos_embed.proj", x, p, d) + positions(s, d)
    for i in range(c["num_layers"]):
        name = f"transformer_blocks.{i}"
        m = modulation(f"{name}.norm1.linear", embedding(i), d, 6)
        u = norm(z, 1e-6) * (1 + m[1]) + m[0]
        qkv = [split(linear(f"{name}.attn1.to_{a}", u, d, d, c.get("attention_bias", True)), heads) for a in "qkv"]
        z = z + m[2] * linear(f"{name}.attn1.to_out.0", attend(*qkv), d, d)
        u = norm(z, c["norm_eps"])
        if c.get("norm_elementwise_affine"):
            u = u * w(f"{name}.norm3.weight", d) + w(f"{name}.norm3.bias", d)
        u = u * (1 + m[4]) + m[3]
        if c.get("activation_fn") == "geglu":
            value, gate = np.split(linear(f"{name}.ff.net.0.proj", u, d, 8 * d), 2, axis=-1)
            u = value * gelu(gate)
        else:
            act = gelu if c.get("activation_fn") == "gelu" else gelu_tanh
            u = act(linear(f"{name}.ff.net.0.proj", u, d, 4 * d))
        z = z + m[5] * linear(f"{name}.ff.net.2", u, 4 * d, d)
    m = modulation("proj_out_1", embedding(0), d, 2)
    z = norm(z, 1e-6) * (1 + m[1]) + m[0]
    return unpatch(linear("proj_out_2", z, d, p * p * c["out_channels"]), s, p, c["out_channels"])


def dit_original(c, x, t, class_labels):
    d, p, inner = c["hidden_size"], c["patch_size"], int(c["hidden_size"] * c["mlp_ratio"])
    s = c["input_size"] // p
    e = silu(linear("t_embedder.mlp.0", waves(t, 256, 0), 256, d))
    e = linear("t_embedder.mlp.2", e, d, d)
    rows = c["num_classes"] + (c.get("class_dropout_prob", 0.1) > 0)
    e = silu(e + w("y_embedder.embedding_table.weight", rows, d)[class_labels])
    z = patches("x_embedder.proj", x, p, d) + positions(s, d)
    for i in range(c["depth"]):
        name = f"blocks.{i}"
        m = modulation(f"{name}.adaLN_modulation.1", e, d, 6)
        u = linear(f"{name}.attn.qkv", norm(z, 1e-6) * (1 + m[1]) + m[0], d, 3 * d)
        z = z + m[2] * linear(f"{name}.attn.proj", thirds(u, c["num_heads"]), d, d)
        u = norm(z, 1e-6) * (1 + m[4]) + m[3]
        u = gelu_tanh(linear(f"{name}.mlp.fc1", u, d, inner))
        z = z + m[5] * linear(f"{name}.mlp.fc2", u, inner, d)
    m = modulation("final_layer.adaLN_modulation.1", e, d, 2)
    z = norm(z, 1e-6) * (1 + m[1]) + m[0]
    out = 2 * c["in_channels"] if c["learn_sigma"] else c["in_channels"]
    return unpatch(linear("final_layer.linear", z, d, p * p * out), s, p, out)


def sit(c, x, t, class_labels):
    """Of our time and velocity, which run against SiT's."""
    turned = [np.float32(1) - np.float32(v) for v in t]
    return -dit_original(c, x, turned, class_labels)[:, : c["in_channels"]]


def encoder(name, x, heads, inner):
    d = x.shape[-1]
    u = x @ w(f"{name}.self_attn.in_proj_weight", 3 * d, d).T + w(f"{name}.self_attn.in_proj_bias", 3 * d)
    u = linear(f"{name}.self_attn.out_proj", thirds(u, heads), d, d)
    x = layer_norm(f"{name}.norm1", x + u)
    u = linear(f"{name}.linear2", gelu(linear(f"{name}.linear1", x, d, inner)), inner, d)
    return layer_norm(f"{name}.norm2", x + u)


def csdi(c, x, step, cond_info, cond_obs=None):
    rows, k, n = x.shape
    d, e, half, f = c["channels"], c["diffusion_embedding_dim"], c["diffusion_embedding_dim"] // 2, np.float32
    x = np.stack([x] if cond_obs is None else [cond_obs, x], 1)
    inputs = x.shape[1]
    h = np.maximum(conv1("input_projection", x.reshape(rows, inputs, k * n), inputs, d), 0)
    exponent = np.arange(half, dtype=f) / f(half - 1) * f(4)
    angle = np.asarray(step, f)[:, None] * (10 ** exponent.astype(np.float64)).astype(f)
    angle = angle.astype(np.float64)
    a = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    for i in (1, 2):
        a = silu(linear(f"diffusion_embedding.projection{i}", a, e, e))
    skips = 0
    for i in range(c["layers"]):
        name = f"residual_layers.{i}"
        y = (h + linear(f"{name}.diffusion_projection", a, e, d)[:, :, None]).reshape(rows, d, k, n)
        for layer, order, size in (("time", (0, 2, 3, 1), n), ("feature", (0, 3, 2, 1), k)):
            if size == 1:
                continue
            u = y.transpose(order)
            v = encoder(f"{name}.{layer}_layer.layers.0", u.reshape(-1, size, d), c["nheads"], c["dim_feedforward"])
            y = v.reshape(u.shape).transpose(np.argsort(order))
        y = conv1(f"{name}.mid_projection", y.reshape(rows, d, k * n), d, 2 * d)
        side = c["side_dim"]
        y = y + conv1(f"{name}.cond_projection", cond_info.reshape(rows, side, k * n), side, 2 * d)
        y = np.tanh(y[:, d:]) / (1 + np.exp(-y[:, :d]))
        y = conv1(f"{name}.output_projection", y, d, 2 * d)
        h, skips = (h + y[:, :d]) / math.sqrt(2), skips + y[:, d:]
    h = np.maximum(conv1("output_projection1", skips / math.sqrt(c["layers"]), d, d), 0)
    return conv1("output_projection2", h, d, 1).reshape(rows, k, n)


def tabddpm(c, x, t, y=None):
    d, inputs = c["dim_t"], c["d_in"]
    e = linear("time_embed.2", silu(linear("time_embed.0", waves(t, d, 0), d, d)), d, d)
    h = linear("proj", x, inputs, d) + e
    if y is not None and c["num_classes"]:
        label = silu(w("label_emb.weight", c["num_classes"], d)[np.maximum(y, 0)])
        h = h + np.where(y[:, None] >= 0, label, 0)
    elif y is not None:
        label = silu(linear("label_emb", np.maximum(y, -1e8)[:, None], 1, d))
        h = h + np.where(y[:, None] > -1e8, label, 0)
    for i, width in enumerate(c["d_layers"]):
        h = np.maximum(linear(f"mlp.blocks.{i}.linear", h, h.shape[1], width), 0)
    return linear("mlp.head", h, h.shape[1], inputs)


def tabsyn(c, x, t):
    d, inputs, name = c["dim_t"], c["d_in"], "denoise_fn_F"
    angle = np.asarray(t)[:, None] * 1e-4 ** (np.arange(d // 2) / (d // 2))
    e = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    e = linear(f"{name}.time_embed.2", silu(linear(f"{name}.time_embed.0", e, d, d)), d, d)
    h = linear(f"{name}.proj", x, inputs, d) + e
    for i, width in enumerate([2 * d, 2 * d, d, inputs]):
        h = linear(f"{name}.mlp.{2 * i}", silu(h) if i else h, h.shape[1], width)
    return h


def llada(c, tokens, _):
    d, heads, shared = c["d_model"], c["n_heads"], c["n_kv_heads"]
    depth, rows, inner, eps = d // heads, c["embedding_size"], c["mlp_hidden_size"], c["rms_norm_eps"]
    table = w("model.transformer.wte.weight", rows, d)
    bias, root = c.get("include_bias", False), math.sqrt(d)
    z, f = table[tokens], np.float32
    part = np.arange(0, depth, 2, dtype=f) / f(depth)
    inverse = f(1) / (c["rope_theta"] ** part.astype(np.float64)).astype(f)
    angle = (np.arange(z.shape[1], dtype=f)[:, None] * inverse).astype(np.float64)

    def rotate(x):
        low, high = np.split(x, 2, axis=-1)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

    def normed(name, x):
        y = rms_norm(name, x, eps)
        return y + w(f"{name}.bias", d) if bias else y

    z = z * root if c.get("input_emb_norm") else z
    qkv = bias or c.get("include_qkv_bias", False)
    for i in range(c["n_layers"]):
        name = f"model.transformer.blocks.{i}"
        u = normed(f"{name}.attn_norm", z)
        q = split(linear(f"{name}.q_proj", u, d, d, qkv), heads)
        k, v = [split(linear(f"{name}.{p}_proj", u, d, shared * depth, qkv), shared) for p in "kv"]
        k, v = [np.repeat(a, heads // shared, 1) for a in (rotate(k), v)]
        z = z + linear(f"{name}.attn_out", attend(rotate(q), k, v), d, d, bias)
        u = normed(f"{name}.ff_norm", z)
        gate = silu(linear(f"{name}.ff_proj", u, d, inner, bias))
        u = gate * linear(f"{name}.up_proj", u, d, inner, bias)
        z = z + linear(f"{name}.ff_out", u, inner, d, bias)
    z = normed("model.transformer.ln_f", z)
    tied = c.get("weight_tying", True)
    out = z @ table.T if tied else linear("model.transformer.ff_out", z, d, rows, bias)
    return out / root if c.get("scale_logits") else out


CASES = [
    (dit, {"sample_size": 6, "patch_size": 2, "in_channels": 2, "out_channels": 4, "num_layers": 2,
           "num_attention_heads": 3, "attention_head_dim": 4, "num_embeds_ada_norm": 3, "norm_eps": 1e-5},
     (2, 2, 6, 6), [3, 731], {"class_labels": [1, 3]}),
    (dit_original, {"input_size": 6, "patch_size": 3, "in_channels": 2, "hidden_size": 12, "depth": 2, "num_heads": 3,
                    "mlp_ratio": 2.5, "num_classes": 3, "learn_sigma": True},
     (2, 2, 6, 6), [3, 731], {"class_labels": [1, 3]}),
    (sit, {"input_size": 4, "patch_size": 2, "in_channels": 3, "hidden_size": 8, "depth": 1, "num_heads": 2,
           "mlp_ratio": 4, "num_classes": 5, "learn_sigma": True},
     (2, 3, 4, 4), [0.25, 0.875], {"class_labels": [4, 5]}),
    (csdi, {"target_dim": 2, "length": 5, "side_dim": 3, "channels": 6, "layers": 2, "nheads": 3, "dim_feedforward": 7,
            "num_steps": 50, "diffusion_embedding_dim": 8},
     (2, 2, 5), [0, 41], {"cond_info": (2, 3, 2, 5), "cond_obs": (2, 2, 5)}),
    (tabddpm, {"d_in": 3, "num_classes": 4, "is_y_cond": True, "d_layers": [5, 7], "dim_t": 6},
     (3, 3), [0, 17, 999], {"y": [3, 0, -1]}),
    (tabsyn, {"d_in": 3, "dim_t": 8}, (2, 3), [-1.25, 0.75], {}),
    (llada, {"d_model": 16, "n_heads": 4, "n_kv_heads": 2, "n_layers": 2, "mlp_hidden_size": 10, "rope_theta": 10000.0,
             "rms_norm_eps": 1e-5, "embedding_size": 9, "weight_tying": True},
     [[8, 1, 8, 3, 0], [2, 2, 8, 8, 7]], [0, 0], {}),
    # what else their configs can say
    (dit, {"sample_size": 2, "patch_size": 1, "in_channels": 3, "out_channels": 3, "num_layers": 1,
           "num_attention_heads": 1, "attention_head_dim": 8, "num_embeds_ada_norm": 2, "norm_eps": 1e-3,
           "attention_bias": False, "activation_fn": "geglu", "norm_elementwise_affine": True},
     (2, 3, 2, 2), [0, 999], {"class_labels": [0, 2]}),
    (dit, {"sample_size": 4, "patch_size": 4, "in_channels": 1, "out_channels": 2, "num_layers": 1,
           "num_attention_heads": 2, "attention_head_dim": 2, "num_embeds_ada_norm": 2, "norm_eps": 1e-5,
           "activation_fn": "gelu"},
     (1, 1, 4, 4), [500], {"class_labels": [1]}),
    (dit_original, {"input_size": 4, "patch_size": 2, "in_channels": 2, "hidden_size": 8, "depth": 1, "num_heads": 1,
                    "mlp_ratio": 4.0, "num_classes": 2, "learn_sigma": False, "class_dropout_prob": 0.0},
     (2, 2, 4, 4), [10, 20], {"class_labels": [1, 0]}),
    (csdi, {"target_dim": 1, "length": 4, "side_dim": 2, "channels": 4, "layers": 1, "nheads": 1, "dim_feedforward": 8,
            "num_steps": 20, "diffusion_embedding_dim": 6, "inputdim": 1},
     (2, 1, 4), [7, 19], {"cond_info": (2, 2, 1, 4)}),
    (tabddpm, {"d_in": 2, "num_classes": 0, "is_y_cond": True, "d_layers": [4], "dim_t": 5},
     (3, 2), [0, 500, 3], {"y": [0.5, -2.0, -1e9]}),
    (tabddpm, {"d_in": 2, "num_classes": 3, "is_y_cond": False, "d_layers": [4, 4], "dim_t": 4}, (2, 2), [1, 2], {}),
    (llada, {"d_model": 8, "n_heads": 2, "n_kv_heads": 1, "n_layers": 1, "mlp_hidden_size": 6, "rope_theta": 500000.0,
             "rms_norm_eps": 1e-6, "embedding_size": 7, "weight_tying": False, "include_bias": True, "scale_logits": True,
             "input_emb_norm": True},
     [[6, 1, 2], [0, 6, 6]], [0, 0], {}),
]


def rows(cases):
    """Prints each with eight of its outputs. Numbers of a shape come by the formula, lists as they are."""
    found = []
    for network, config, x, t, conds, *more in cases:
        given = formula("x", x) if isinstance(x, tuple) else np.array(x)
        named = {k: formula(k, v) if isinstance(v, tuple) else np.array(v) for k, v in conds.items()}
        more = more[0] if more else {}
        out = network(config, given, t, **named, **more)
        at = [int(i) for i in np.linspace(0, out.size - 1, 8)]
        found.append({"model": network.__name__, "config": config, "x": x, "level": t, "conds": conds, **more,
                      "state": given.shape, "shape": out.shape, "at": at,
                      "want": [float(f"{out.reshape(-1)[i]:.8g}") for i in at]})
    print("[" + ",\n".join(json.dumps(r) for r in found) + "]")


if __name__ == "__main__":
    rows(CASES)
