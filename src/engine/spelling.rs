//! The names that files have for the weights of a plugin, mapped to the plugin's own: those of its reference class as it
//! is today. Older versions of a class, wrappers of training programs and the programs a class was ported from spell
//! them otherwise. Only names and sizes change here; no tensor is read.

use crate::base::Result;
use crate::weights::source::Renamed;
use crate::weights::{Held, Source};

/// What wraps a state_dict of any class: parallel training, compilation.
const WRAPPERS: &[&str] = &["module.", "_orig_mod."];

/// Beginnings that go, or come: the network as a part of the class that trains it, and alone.
const PREFIXES: &[(&[&str], &str, &str)] = &[
    (&["csdi"], "diffmodel.", ""),
    (&["tabddpm"], "_denoise_fn.", ""),
    (&["llada"], "transformer.", "model.transformer."),
    (&["autoencoder_kl"], "first_stage_model.", ""),
    (&["songunet", "dhariwal"], "map_", "model.map_"),
    (&["songunet", "dhariwal"], "enc.", "model.enc."),
    (&["songunet", "dhariwal"], "dec.", "model.dec."),
    (&["songunet", "dhariwal"], "out_", "model.out_"),
];

/// Layers of an attention before diffusers 0.17, inside `attentions.N`.
const ATTENTION: &[(&str, &str)] = &[
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
];

/// An autoencoder of latent-diffusion, whose parts diffusers names otherwise. `#` is a number; `~` one that counts from
/// the other end.
const LATENT: &[(&str, &str)] = &[
    ("mid.block_1.", "mid_block.resnets.0."),
    ("mid.block_2.", "mid_block.resnets.1."),
    ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
    ("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
    ("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
    ("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
    ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
    ("down.#.block.#.", "down_blocks.#.resnets.#."),
    ("down.#.downsample.", "down_blocks.#.downsamplers.0."),
    ("up.#.block.#.", "up_blocks.~.resnets.#."),
    ("up.#.upsample.", "up_blocks.~.upsamplers.0."),
    ("norm_out.", "conv_norm_out."),
];

/// The weights under the names that the plugin has for them.
pub fn canonical(plugin: &str, source: Source) -> Result<Source> {
    let levels = latent_levels(&source);
    source.renamed(&|held| renamed(plugin, levels, held))
}

fn renamed(plugin: &str, levels: usize, held: &Held) -> Renamed {
    let mut name = held.name.as_str();
    while let Some(rest) = WRAPPERS.iter().find_map(|w| name.strip_prefix(w)) {
        name = rest;
    }
    let mut name = name.to_owned();
    let fits = |p: &&(&[&str], &str, &str)| p.0.contains(&plugin) && name.starts_with(p.1);
    if let Some((_, from, to)) = PREFIXES.iter().find(fits) {
        name.replace_range(..from.len(), to);
    }
    let mut dims = None;
    if matches!(plugin, "autoencoder_kl" | "unet2d") {
        if let Some(found) = latent(&name, levels) {
            name = found;
        }
        if name.contains("attentions.") {
            for (from, to) in ATTENTION {
                name = name.replace(from, to);
            }
            // a linear layer, which some write as a convolution of one pixel
            if let &[rows, columns, 1, 1] = held.dims.as_slice() {
                dims = Some(vec![rows, columns]);
            }
        }
    }
    Renamed { name: Some(name), dims }
}

/// How many levels an autoencoder of latent-diffusion has: 0 if it is none.
fn latent_levels(source: &Source) -> usize {
    let level = |name: &str| {
        let (_, rest) = name.split_once("decoder.up.")?;
        rest.split('.').next()?.parse::<usize>().ok()
    };
    let levels = source.entries().iter().filter_map(|e| level(&e.name)).filter(|n| *n < 64);
    levels.max().map_or(0, |n| n + 1)
}

/// A name of latent-diffusion in diffusers' words.
fn latent(name: &str, levels: usize) -> Option<String> {
    let (part, rest) = name.split_once('.').filter(|_| levels > 0)?;
    if !matches!(part, "encoder" | "decoder") {
        return None;
    }
    LATENT.iter().find_map(|(from, to)| {
        let (numbers, tail) = matched(from, rest)?;
        let mut numbers = numbers.into_iter();
        let mut out = format!("{part}.");
        for c in to.chars() {
            match c {
                '#' => out.push_str(&numbers.next()?.to_string()),
                '~' => out.push_str(&(levels - 1).checked_sub(numbers.next()?)?.to_string()),
                c => out.push(c),
            }
        }
        out.push_str(&tail.replace("nin_shortcut", "conv_shortcut"));
        Some(out)
    })
}

/// The numbers at the places of `#`, and what follows.
fn matched<'a>(pattern: &str, mut text: &'a str) -> Option<(Vec<usize>, &'a str)> {
    let mut numbers = Vec::new();
    for (i, literal) in pattern.split('#').enumerate() {
        if i > 0 {
            let end = text.find(|c: char| !c.is_ascii_digit())?;
            let (number, rest) = text.split_at(end);
            numbers.push(number.parse().ok()?);
            text = rest;
        }
        text = text.strip_prefix(literal)?;
    }
    Some((numbers, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_latent_diffusion_are_those_of_diffusers() {
        let of = |name: &str| latent(name, 4);
        for (from, to) in [
            (
                "decoder.up.3.block.2.nin_shortcut.bias",
                "decoder.up_blocks.0.resnets.2.conv_shortcut.bias",
            ),
            ("decoder.up.1.upsample.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.weight"),
            ("encoder.down.0.block.1.norm1.weight", "encoder.down_blocks.0.resnets.1.norm1.weight"),
            ("encoder.mid.attn_1.q.weight", "encoder.mid_block.attentions.0.to_q.weight"),
            ("decoder.norm_out.bias", "decoder.conv_norm_out.bias"),
        ] {
            assert_eq!(of(from).as_deref(), Some(to));
        }
        for same in
            ["decoder.conv_in.weight", "post_quant_conv.bias", "decoder.up.9.block.0.norm1.bias"]
        {
            assert_eq!(of(same), None, "{same}");
        }
    }
}
