"""The networks of pictures of plugins/models once more, in NumPy and f64: prints the rows of pictures.json.

    python3 tests/networks/pictures.py > tests/networks/pictures.json

Written from the classes of diffusers and of EDM's code, block by block as those are, where plugins/models shares one.
Those of the oracle's checkpoints were compared with the references; the skip blocks of NCSN++ are in none of them.
"""
import math

import numpy as np

from reference import attend, formula, linear, rows, silu, split, thirds, w


def conv(name, x, outputs, k, stride=1, pad=None, bias=True):
    """x[n,c,h,w]; pad is (above, below, left, right)."""
    n, c, _, _ = x.shape
    a, b, l, r = pad if pad is not None else (k // 2,) * 4
    x = np.pad(x, ((0, 0), (0, 0), (a, b), (l, r)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::stride, ::stride]
    y = np.einsum("ncyxij,ocij->noyx", windows, w(f"{name}.weight", outputs, c, k, k), optimize=True)
    return y + w(f"{name}.bias", outputs)[None, :, None, None] if bias else y


def group_norm(name, x, groups, eps):
    n, c, h, v = x.shape
    g = x.reshape(n, groups, -1)
    g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + eps)
    g = g.reshape(x.shape)
    return g * w(f"{name}.weight", c)[None, :, None, None] + w(f"{name}.bias", c)[None, :, None, None]


def upfirdn(x, kernel, up=1, down=1, pad=(0, 0)):
    """Zeros between, zeros around, convolution by the turned kernel, every so manieth."""
    n, c, h, v = x.shape
    wide = np.zeros((n, c, h * up, v * up))
    wide[:, :, ::up, ::up] = x
    wide = np.pad(wide, ((0, 0), (0, 0), pad, pad))
    windows = np.lib.stride_tricks.sliding_window_view(wide, kernel.shape, (2, 3))
    return np.einsum("ncyxij,ij->ncyx", windows, kernel[::-1, ::-1])[:, :, ::down, ::down]


def fir(taps):
    k = np.outer(taps, taps)
    return k / k.sum()


FIR = fir([1, 3, 3, 1])


def fir_down(x):
    return upfirdn(x, FIR, down=2, pad=(1, 1))


def fir_up(x):
    return upfirdn(x, 4 * FIR, up=2, pad=(2, 1))


def mean_down(x):
    n, c, h, v = x.shape
    return x.reshape(n, c, h // 2, 2, v // 2, 2).mean((3, 5))


def nearest_up(x):
    return x.repeat(2, 2).repeat(2, 3)


def sinusoid(t, width, shift, cos_first):
    half, f = width // 2, np.float32
    exponent = f(-math.log(1e4)) * np.arange(half, dtype=f) / f(half - shift)
    angle = (np.asarray(t, f)[:, None] * np.exp(exponent.astype(np.float64)).astype(f)).astype(np.float64)
    parts = [np.cos(angle), np.sin(angle)]
    return np.concatenate(parts if cos_first else parts[::-1], 1)


# ---- diffusers


def resnet(name, x, temb, outputs, groups, groups_out=None, eps=1e-5, scale=1.0, shift="default", change=None, project=None):
    act, inputs = silu, x.shape[1]
    h = act(group_norm(f"{name}.norm1", x, groups, eps))
    if change is not None:
        x, h = change(x), change(h)
    h = conv(f"{name}.conv1", h, outputs, 3)
    if temb is not None:
        width = outputs * (2 if shift == "scale_shift" else 1)
        t = linear(f"{name}.time_emb_proj", act(temb), temb.shape[1], width)[:, :, None, None]
        if shift == "default":
            h = group_norm(f"{name}.norm2", h + t, groups_out or groups, eps)
        else:
            a, b = t[:, :outputs], t[:, outputs:]
            h = group_norm(f"{name}.norm2", h, groups_out or groups, eps) * (1 + a) + b
    else:
        h = group_norm(f"{name}.norm2", h, groups_out or groups, eps)
    h = conv(f"{name}.conv2", act(h), outputs, 3)
    if project if project is not None else inputs != outputs:
        x = conv(f"{name}.conv_shortcut", x, outputs, 1)
    return (x + h) / scale


def attention(name, x, head, groups, eps, scale=1.0):
    n, c, h, v = x.shape
    heads, inner = c // head, c // head * head
    z = x if groups is None else group_norm(f"{name}.group_norm", x, groups, eps)
    z = z.reshape(n, c, h * v).transpose(0, 2, 1)
    q, k, u = [split(linear(f"{name}.to_{p}", z, c, inner), heads) for p in "qkv"]
    z = linear(f"{name}.to_out.0", attend(q, k, u), inner, c)
    return (z.transpose(0, 2, 1).reshape(x.shape) + x) / scale


def unet2d(c, x, t, class_labels=None):
    widths, layers, eps = c["block_out_channels"], c["layers_per_block"], c["norm_eps"]
    groups, shift, head = c["norm_num_groups"], c["resnet_time_scale_shift"], c["attention_head_dim"]
    dim, d0, root2 = 4 * widths[0], widths[0], math.sqrt(2)
    if c["time_embedding_type"] == "fourier":
        turns = np.log(np.asarray(t, float))[:, None] * w("time_proj.weight", d0) * 2 * np.pi
        e = np.concatenate([np.sin(turns), np.cos(turns)], 1)
    else:
        e = sinusoid(t, d0, c["freq_shift"], c["flip_sin_to_cos"])
    e = linear("time_embedding.linear_2", silu(linear("time_embedding.linear_1", e, e.shape[1], dim)), dim, dim)
    if class_labels is not None:
        e = e + w("class_embedding.weight", c["num_class_embeds"], dim)[class_labels]

    def group(n):
        return min(n // 4, 32) if groups is None else groups

    def block(name, h, outputs, **more):
        return resnet(name, h, e, outputs, group(h.shape[1]), group(outputs), eps, shift=shift, **more)

    def skip_block(name, h, outputs, first=None, **more):
        first = min(h.shape[1] // 4, 32) if first is None else first
        return resnet(name, h, e, outputs, first, min(outputs // 4, 32), eps, scale=root2, shift=shift, **more)

    def attend_by(name, h):
        n = h.shape[1]
        return attention(name, h, head or n, group(n), eps)

    skip, h = x, conv("conv_in", x, d0, 3)
    kept, last = [h], len(widths) - 1
    for i, kind in enumerate(c["down_block_types"]):
        name, out = f"down_blocks.{i}", widths[i]
        for k in range(layers):
            if "Skip" in kind:
                h = skip_block(f"{name}.resnets.{k}", h, out)
                if "Attn" in kind:
                    h = attention(f"{name}.attentions.{k}", h, head or out, 32, eps, root2)
            else:
                h = block(f"{name}.resnets.{k}", h, out)
                if "Attn" in kind:
                    h = attend_by(f"{name}.attentions.{k}", h)
            kept.append(h)
        if i == last:
            continue
        if "Skip" in kind:
            h = skip_block(f"{name}.resnet_down", h, out, change=fir_down, project=True)
            skip = fir_down(skip)
            h = conv(f"{name}.skip_conv", skip, out, 1) + h
        elif kind == "ResnetDownsampleBlock2D" or ("Attn" in kind and c["downsample_type"] == "resnet"):
            h = block(f"{name}.downsamplers.0", h, out, change=mean_down)
        else:
            p = c["downsample_padding"]
            h = conv(f"{name}.downsamplers.0.conv", h, out, 3, 2, (0, 1, 0, 1) if p == 0 else (p,) * 4)
        kept.append(h)
    m, out = c["mid_block_scale_factor"], widths[-1]
    h = block("mid_block.resnets.0", h, out, scale=m)
    if c["add_attention"]:
        g = c["attn_norm_num_groups"] or (group(out) if shift == "default" else None)
        h = attention("mid_block.attentions.0", h, head or out, g, eps, m)
    h = block("mid_block.resnets.1", h, out, scale=m)
    skip, turned = None, widths[::-1]
    for i, kind in enumerate(c["up_block_types"]):
        name, out = f"up_blocks.{i}", turned[i]
        for k in range(layers + 1):
            side = kept.pop()
            below, beside = h.shape[1], side.shape[1]
            h = np.concatenate([h, side], 1)
            if "Skip" in kind:
                h = skip_block(f"{name}.resnets.{k}", h, out, min(below + beside // 4, 32) if "Attn" in kind else None)
            else:
                h = block(f"{name}.resnets.{k}", h, out)
                if "Attn" in kind:
                    h = attend_by(f"{name}.attentions.{k}", h)
        if kind == "AttnSkipUpBlock2D":
            h = attention(f"{name}.attentions.0", h, head or out, 32, eps, root2)
        if "Skip" in kind and skip is not None:
            skip = fir_up(skip)
        if i == last:
            continue
        if "Skip" in kind:
            s = silu(group_norm(f"{name}.skip_norm", h, min(out // 4, 32), eps))
            skip = (0 if skip is None else skip) + conv(f"{name}.skip_conv", s, 3, 3)
            h = skip_block(f"{name}.resnet_up", h, out, change=fir_up, project=True)
        elif kind == "ResnetUpsampleBlock2D" or ("Attn" in kind and c["upsample_type"] == "resnet"):
            h = block(f"{name}.upsamplers.0", h, out, change=nearest_up)
        else:
            h = conv(f"{name}.upsamplers.0.conv", nearest_up(h), out, 3)
    h = conv("conv_out", silu(group_norm("conv_norm_out", h, group(d0), eps)), c["out_channels"], 3)
    h = h if skip is None else h + skip
    if c["time_embedding_type"] == "fourier":
        h = h / np.asarray(t, float)[:, None, None, None]
    return h


def autoencoder_kl(c, x, t, phase=0):
    widths, g, layers, latents = c["block_out_channels"], c["norm_num_groups"], c["layers_per_block"], c["latent_channels"]
    scale, shift, eps = c["scaling_factor"], c["shift_factor"], 1e-6

    def block(name, h, out):
        return resnet(name, h, None, out, g, eps=eps)

    def middle(part, h):
        n = h.shape[1]
        h = block(f"{part}.mid_block.resnets.0", h, n)
        h = attention(f"{part}.mid_block.attentions.0", h, n, g, eps)
        return block(f"{part}.mid_block.resnets.1", h, n)

    def finish(part, h, out):
        return conv(f"{part}.conv_out", silu(group_norm(f"{part}.conv_norm_out", h, g, eps)), out, 3)

    if phase == 1:
        h = conv("encoder.conv_in", x, widths[0], 3)
        for i, out in enumerate(widths):
            for k in range(layers):
                h = block(f"encoder.down_blocks.{i}.resnets.{k}", h, out)
                if "Attn" in c["down_block_types"][i]:
                    h = attention(f"encoder.down_blocks.{i}.attentions.{k}", h, out, g, eps)
            if i + 1 < len(widths):
                h = conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", h, out, 3, 2, (0, 1, 0, 1))
        h = conv("quant_conv", finish("encoder", middle("encoder", h), 2 * latents), 2 * latents, 1)
        mean, log = h[:, :latents], h[:, latents:].clip(-30, 20)
        return np.concatenate([(mean - shift) * scale, log + 2 * math.log(scale)], 1)
    z = conv("post_quant_conv", x / scale + shift, latents, 1)
    h = middle("decoder", conv("decoder.conv_in", z, widths[-1], 3))
    for i, out in enumerate(widths[::-1]):
        for k in range(layers + 1):
            h = block(f"decoder.up_blocks.{i}.resnets.{k}", h, out)
            if "Attn" in c["up_block_types"][i]:
                h = attention(f"decoder.up_blocks.{i}.attentions.{k}", h, out, g, eps)
        if i + 1 < len(widths):
            h = conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", nearest_up(h), out, 3)
    return finish("decoder", h, c["out_channels"])


# ---- EDM


def changed(x, taps, up, down):
    """conv_transpose2d by 4 f, or conv2d by f, of stride 2."""
    pad = (len(taps) - 1) // 2
    if up:
        a = len(taps) - 1 - pad
        y = upfirdn(x, 4 * fir(taps), up=2, pad=(a, a))
        return y[:, :, : 2 * x.shape[2], : 2 * x.shape[3]]
    return upfirdn(x, fir(taps), down=2, pad=(pad, pad)) if down else x


def unet_block(name, x, emb, out, heads, taps, style, up=False, down=False):
    eps, adaptive, gain, proj = style

    def norm(part, x):
        return group_norm(f"{name}.{part}", x, min(32, x.shape[1] // 4), eps)

    orig = x
    x = conv(f"{name}.conv0", changed(silu(norm("norm0", x)), taps, up, down), out, 3)
    p = linear(f"{name}.affine", emb, emb.shape[1], out * (2 if adaptive else 1))[:, :, None, None]
    x = silu(norm("norm1", x) * (p[:, :out] + 1) + p[:, out:]) if adaptive else silu(norm("norm1", x + p))
    x = conv(f"{name}.conv1", x, out, 3)
    side = changed(orig, taps, up, down)
    if orig.shape[1] != out or ((up or down) and proj):
        side = conv(f"{name}.skip", side, out, 1)
    x = (x + side) * gain
    if heads:
        n, c, h, v = x.shape
        qkv = conv(f"{name}.qkv", norm("norm2", x), 3 * c, 1).reshape(n, heads, c // heads, 3, h * v)
        q, k, u = [qkv[:, :, :, i].transpose(0, 1, 3, 2) for i in range(3)]
        a = attend(q, k, u).transpose(0, 2, 1).reshape(x.shape)
        x = (conv(f"{name}.proj", a, c, 1) + x) * gain
    return x


def edm_sinusoid(t, width, endpoint):
    half, f = width // 2, np.float32
    part = np.arange(half, dtype=f) / f(half - (1 if endpoint else 0))
    freqs = (np.float64(f(1 / 10000)) ** part.astype(np.float64)).astype(f)
    angle = (np.asarray(t, f)[:, None] * freqs).astype(np.float64)
    return np.concatenate([np.cos(angle), np.sin(angle)], 1)


def songunet(c, x, t, class_labels=None, augment_labels=None):
    base, mult, blocks, n = c["model_channels"], c["channel_mult"], c["num_blocks"], c["img_channels"]
    noise, dim, res0, taps = base * c["channel_mult_noise"], base * c["channel_mult_emb"], c["img_resolution"], c["resample_filter"]
    style, root = (1e-6, False, math.sqrt(0.5), True), math.sqrt(2)
    if c["embedding_type"] == "positional":
        e = edm_sinusoid(t, noise, True)
    else:
        turns = np.asarray(t, float)[:, None] * (2 * np.pi * w("model.map_noise.freqs", noise // 2))
        e = np.concatenate([np.cos(turns), np.sin(turns)], 1)
    e = np.concatenate([e[:, noise // 2:], e[:, : noise // 2]], 1)
    if class_labels is not None:
        e = e + linear("model.map_label", class_labels * math.sqrt(c["label_dim"]), c["label_dim"], noise)
    if augment_labels is not None:
        e = e + linear("model.map_augment", augment_labels, c["augment_dim"], noise, False)
    e = silu(linear("model.map_layer0", e, noise, dim))
    e = silu(linear("model.map_layer1", e, dim, dim))
    skips, aux, out = [], x, base
    for level, m in enumerate(mult):
        res = res0 >> level
        name = f"model.enc.{res}x{res}"
        if level == 0:
            x = conv(f"{name}_conv", x, base, 3)
        else:
            x = unet_block(f"{name}_down", x, e, out, 0, taps, style, down=True)
            if c["encoder_type"] == "skip":
                aux = changed(aux, taps, False, True)
                x = x + conv(f"{name}_aux_skip", aux, out, 1)
            if c["encoder_type"] == "residual":
                pad = (len(taps) - 1) // 2
                wide = conv(f"{name}_aux_residual", aux, out, 3, 1, (1 + pad,) * 4, False)
                wide = upfirdn(wide, fir(taps), down=2) + w(f"{name}_aux_residual.bias", out)[None, :, None, None]
                x = aux = (x + wide) / root
        skips.append(x)
        for i in range(blocks):
            out = base * m
            x = unet_block(f"{name}_block{i}", x, e, out, int(res in c["attn_resolutions"]), taps, style)
            skips.append(x)
    y = None
    for level in reversed(range(len(mult))):
        res = res0 >> level
        name = f"model.dec.{res}x{res}"
        if level == len(mult) - 1:
            x = unet_block(f"{name}_in0", x, e, out, 1, taps, style)
            x = unet_block(f"{name}_in1", x, e, out, 0, taps, style)
        else:
            x = unet_block(f"{name}_up", x, e, out, 0, taps, style, up=True)
        for i in range(blocks + 1):
            out = base * mult[level]
            x = np.concatenate([x, skips.pop()], 1)
            heads = int(i == blocks and res in c["attn_resolutions"])
            x = unet_block(f"{name}_block{i}", x, e, out, heads, taps, style)
        if c["decoder_type"] == "skip" or level == 0:
            if y is not None:
                y = changed(y, taps, True, False)
            s = silu(group_norm(f"{name}_aux_norm", x, min(32, out // 4), 1e-6))
            s = conv(f"{name}_aux_conv", s, n, 3)
            y = s if y is None else s + y
    return y


def dhariwal(c, x, t, class_labels=None):
    base, mult, blocks, dim = c["model_channels"], c["channel_mult"], c["num_blocks"], c["model_channels"] * c["channel_mult_emb"]
    style, res0, taps = (1e-5, True, 1.0, False), c["img_resolution"], [1, 1]
    e = silu(linear("model.map_layer0", edm_sinusoid(t, base, False), base, dim))
    e = linear("model.map_layer1", e, dim, dim)
    if class_labels is not None:
        e = e + linear("model.map_label", class_labels, c["label_dim"], dim, False)
    e, skips, out = silu(e), [], base * mult[0]
    for level, m in enumerate(mult):
        res = res0 >> level
        name = f"model.enc.{res}x{res}"
        x = conv(f"{name}_conv", x, out, 3) if level == 0 else unet_block(f"{name}_down", x, e, out, 0, taps, style, down=True)
        skips.append(x)
        for i in range(blocks):
            out = base * m
            x = unet_block(f"{name}_block{i}", x, e, out, out // 64 if res in c["attn_resolutions"] else 0, taps, style)
            skips.append(x)
    for level in reversed(range(len(mult))):
        res = res0 >> level
        name = f"model.dec.{res}x{res}"
        if level == len(mult) - 1:
            x = unet_block(f"{name}_in0", x, e, out, out // 64, taps, style)
            x = unet_block(f"{name}_in1", x, e, out, 0, taps, style)
        else:
            x = unet_block(f"{name}_up", x, e, out, 0, taps, style, up=True)
        for i in range(blocks + 1):
            out = base * mult[level]
            x = np.concatenate([x, skips.pop()], 1)
            x = unet_block(f"{name}_block{i}", x, e, out, out // 64 if res in c["attn_resolutions"] else 0, taps, style)
    x = silu(group_norm("model.out_norm", x, min(32, out // 4), 1e-5))
    return conv("model.out_conv", x, c["img_channels"], 3)


UNET = {"in_channels": 3, "out_channels": 3, "block_out_channels": [8, 12], "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "norm_num_groups": 4, "attn_norm_num_groups": None, "norm_eps": 1e-5, "attention_head_dim": None,
        "freq_shift": 1, "flip_sin_to_cos": False, "time_embedding_type": "positional", "downsample_padding": 0,
        "downsample_type": "conv", "upsample_type": "conv", "resnet_time_scale_shift": "default",
        "add_attention": True, "mid_block_scale_factor": 1}
ATTENDS = UNET | {"block_out_channels": [8, 8, 16], "downsample_type": "resnet", "upsample_type": "resnet",
                  "down_block_types": ["AttnDownBlock2D", "ResnetDownsampleBlock2D", "DownBlock2D"],
                  "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"], "attention_head_dim": 4,
                  "freq_shift": 0, "flip_sin_to_cos": True, "resnet_time_scale_shift": "scale_shift",
                  "mid_block_scale_factor": 1.5, "num_class_embeds": 3}
SKIPS = UNET | {"block_out_channels": [32, 32], "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
                "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"], "norm_num_groups": None,
                "norm_eps": 1e-6, "time_embedding_type": "fourier", "mid_block_scale_factor": math.sqrt(2)}
VAE = {"in_channels": 3, "out_channels": 2, "latent_channels": 2, "block_out_channels": [4, 8], "layers_per_block": 1,
       "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
       "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"], "norm_num_groups": 2,
       "scaling_factor": 0.5, "shift_factor": 0.25}
SONG = {"img_resolution": 8, "img_channels": 2, "label_dim": 3, "augment_dim": 4, "model_channels": 8,
        "channel_mult": [1, 2], "channel_mult_emb": 2, "num_blocks": 1, "attn_resolutions": [8],
        "embedding_type": "positional", "channel_mult_noise": 1, "encoder_type": "standard",
        "decoder_type": "standard", "resample_filter": [1, 1]}
NCSN = SONG | {"label_dim": 0, "augment_dim": 0, "embedding_type": "fourier", "channel_mult_noise": 2,
               "encoder_type": "residual", "decoder_type": "skip", "resample_filter": [1, 3, 3, 1], "channel_mult": [1, 1, 2]}
BESIDE = NCSN | {"encoder_type": "skip", "attn_resolutions": []}
ADM = {"img_resolution": 4, "img_channels": 3, "label_dim": 3, "model_channels": 64, "channel_mult": [1, 2],
       "channel_mult_emb": 1, "num_blocks": 1, "attn_resolutions": [4]}

CASES = [
    (unet2d, UNET, (2, 3, 4, 8), [3, 731], {}, {}),
    (unet2d, ATTENDS, (2, 3, 8, 8), [0, 999], {"class_labels": [2, 0]}, {}),
    (unet2d, SKIPS, (2, 3, 8, 8), [0.25, 20.0], {}, {}),
    (songunet, SONG, (2, 2, 8, 8), [-1.25, 0.75], {"class_labels": (2, 3), "augment_labels": (2, 4)}, {}),
    (songunet, NCSN, (2, 2, 8, 8), [-1.25, 0.75], {}, {}),
    (songunet, BESIDE, (2, 2, 8, 8), [-1.25, 0.75], {}, {}),
    (dhariwal, ADM, (2, 3, 4, 4), [-1.25, 0.75], {"class_labels": (2, 3)}, {}),
    (autoencoder_kl, VAE, (2, 2, 3, 4), [0, 0], {}, {"phase": 0}),
    (autoencoder_kl, VAE, (2, 3, 6, 10), [0, 0], {}, {"phase": 1}),
]

if __name__ == "__main__":
    rows(CASES)
