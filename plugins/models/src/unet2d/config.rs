//! The settings of a `UNet2DModel`: the keys of its class with their defaults.

use super::{Classes, Features, Kind, Middle, Time, Unet2d};
use crate::block::ACTIVATIONS;
use crate::block::embedding::{Sinusoid, Spacing};
use crate::block::predicts::PREDICTS;
use crate::block::resnet::{DIFFUSERS, Style};
use core::ffi::CStr;
use diffx_plugin::{Config, Error, FINITE, Factory, POSITIVE, Result, schema};

const MOST: usize = 65536;
const MOST_ROWS: usize = 1 << 24;
/// Blocks of the way down.
const MOST_BLOCKS: usize = 16;

impl Factory for Unet2d {
    const ID: &'static CStr = c"org.diffx.unet2d";
    const SUMMARY: &'static CStr = c"U-Net of DDPM and NCSN++, as diffusers has it";
    const SCHEMA: Option<&'static CStr> = schema![
        "in_channels": integer "channels of the state", default 3, minimum 1, maximum 65536;
        "out_channels": integer "channels of the output: as many, or twice with a learned variance", default 3, minimum 1, maximum 65536;
        "center_input_sample": boolean "whether the state lies in 0 to 1", default false;
        "time_embedding_type": string "of the level: its sinusoids, Fourier features of its logarithm, rows of a table", default "positional", enum ["positional", "fourier", "learned"];
        "time_embedding_dim": integer "features of the embedding; 4 times the first of block_out_channels when absent", minimum 1, maximum 65536;
        "num_train_timesteps": integer "rows of the table of a learned embedding", minimum 1, maximum 16777216;
        "freq_shift": number "taken from the number of frequencies that divides their exponents", default 0;
        "flip_sin_to_cos": boolean "whether cosines come first", default true;
        "down_block_types": strings "blocks on the way down; DownBlock2D and three AttnDownBlock2D when absent", enum ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D", "UNetResDownBlock2D", "UNetResAttnDownBlock2D"];
        "mid_block_type": string "block in the middle; null = none", default "UNetMidBlock2D", enum ["UNetMidBlock2D"];
        "up_block_types": strings "blocks on the way up; three AttnUpBlock2D and UpBlock2D when absent", enum ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D", "UNetResUpBlock2D", "UNetResAttnUpBlock2D"];
        "block_out_channels": integers "channels of each block; 224, 448, 672, 896 when absent", minimum 1, maximum 65536;
        "layers_per_block": integer "residual blocks of a block", default 2, minimum 1, maximum 64;
        "mid_block_scale_factor": number "divides the sums in the middle", default 1, exclusiveMinimum 0;
        "downsample_padding": integer "zeros around a picture before it is halved; 0 = one below and right", default 1, minimum 0, maximum 16;
        "downsample_type": string "how attention blocks halve", default "conv", enum ["conv", "resnet"];
        "upsample_type": string "how attention blocks double", default "conv", enum ["conv", "resnet"];
        "dropout": number "of training by the reference; not applied", default 0, minimum 0, maximum 1;
        "act_fn": string "activation of the blocks", default "silu", enum ["silu", "swish", "mish", "gelu", "relu"];
        "attention_head_dim": integer "channels of a head; null = one head, 8 when absent", minimum 1, maximum 65536;
        "norm_num_groups": integer "groups of the norms; null = one for 4 channels, at most 32; 32 when absent", minimum 1, maximum 65536;
        "attn_norm_num_groups": integer "groups of the norm before the attention in the middle, where they differ", minimum 1, maximum 65536;
        "norm_eps": number "added to the variance in norms", default 1e-5, exclusiveMinimum 0;
        "resnet_time_scale_shift": string "whether the embedding is added, or scales and shifts", default "default", enum ["default", "scale_shift"];
        "add_attention": boolean "whether the middle has attention", default true;
        "class_embed_type": string "labels as numbers embedded like times, or as vectors; a table of num_class_embeds when absent", enum ["timestep", "identity"];
        "num_class_embeds": integer "rows of the table of labels", minimum 1, maximum 16777216;
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let widths = config.usizes("block_out_channels", 1..=MOST)?;
        let widths = widths.unwrap_or_else(|| vec![224, 448, 672, 896]);
        let down = config.words("down_block_types", DOWN)?.unwrap_or_else(|| {
            vec![Kind::Plain, Kind::Attention, Kind::Attention, Kind::Attention]
        });
        let up = config.words("up_block_types", UP)?.unwrap_or_else(|| {
            vec![Kind::Attention, Kind::Attention, Kind::Attention, Kind::Plain]
        });
        let levels = widths.len();
        if down.len() != levels || up.len() != levels || !(1..=MOST_BLOCKS).contains(&levels) {
            return Err(Error::invalid(format!(
                "{levels} block_out_channels, {} down_block_types and {} up_block_types, want as \
                 many of each, from 1 to {MOST_BLOCKS}",
                down.len(),
                up.len()
            )));
        }
        let channels =
            [config.usize("in_channels", 3, 1..=MOST)?, config.usize("out_channels", 3, 1..=MOST)?];
        let skips = down.iter().take(levels - 1).chain(up.iter().take(levels - 1));
        if skips.copied().any(Kind::skips) && channels != [3, 3] {
            return Err(Error::invalid(format!(
                "in_channels and out_channels are {channels:?}, want 3 with skip blocks"
            )));
        }
        let width = config.opt_usize("time_embedding_dim", 1..=MOST)?;
        let width = width.unwrap_or(4 * widths[0]); // there is at least one
        let null_groups = config.is_null("norm_num_groups");
        let groups = config.opt_usize("norm_num_groups", 1..=MOST)?;
        let adaptive = config
            .one_of("resnet_time_scale_shift", &[("default", false), ("scale_shift", true)])?;
        let style = Style {
            names: DIFFUSERS,
            groups: if null_groups { None } else { Some(groups.unwrap_or(32)) },
            eps: config.f64("norm_eps", 1e-5, POSITIVE)?,
            act: config.one_of("act_fn", ACTIVATIONS)?,
            embedding: width,
            act_embedding: true,
            adaptive,
            gain: 1.0,
        };
        let one_head = config.is_null("attention_head_dim");
        let head = config.opt_usize("attention_head_dim", 1..=MOST)?;
        config.f64("dropout", 0.0, 0.0..=1.0)?;
        Ok(Self {
            channels,
            center: config.bool("center_input_sample", false)?,
            time: Time { features: features(config, widths[0])?, first: widths[0], width },
            classes: classes(config)?,
            head: if one_head { None } else { Some(head.unwrap_or(8)) },
            middle: middle(config, &style, widths[levels - 1])?,
            down,
            up,
            widths,
            layers: config.usize("layers_per_block", 2, 1..=64)?,
            style,
            down_zeros: config.usize("downsample_padding", 1, 0..=16)?,
            resnet_down: config.one_of("downsample_type", &[("conv", false), ("resnet", true)])?,
            resnet_up: config.one_of("upsample_type", &[("conv", false), ("resnet", true)])?,
            predicts: config.one_of("predicts", PREDICTS)?,
        })
    }
}

const DOWN: &[(&str, Kind)] = &[
    ("DownBlock2D", Kind::Plain),
    ("AttnDownBlock2D", Kind::Attention),
    ("ResnetDownsampleBlock2D", Kind::Resnet),
    ("SkipDownBlock2D", Kind::Skip),
    ("AttnSkipDownBlock2D", Kind::AttentionSkip),
    ("UNetResDownBlock2D", Kind::Plain),
    ("UNetResAttnDownBlock2D", Kind::Attention),
];

const UP: &[(&str, Kind)] = &[
    ("UpBlock2D", Kind::Plain),
    ("AttnUpBlock2D", Kind::Attention),
    ("ResnetUpsampleBlock2D", Kind::Resnet),
    ("SkipUpBlock2D", Kind::Skip),
    ("AttnSkipUpBlock2D", Kind::AttentionSkip),
    ("UNetResUpBlock2D", Kind::Plain),
    ("UNetResAttnUpBlock2D", Kind::Attention),
];

fn features(config: &mut Config, first: usize) -> Result<Features> {
    let shift = config.f64("freq_shift", 0.0, FINITE)?;
    let sinusoid = Sinusoid {
        width: first,
        spacing: Spacing::Exp { shift },
        period: 1e4,
        cos_first: config.bool("flip_sin_to_cos", true)?,
    };
    let rows = config.opt_usize("num_train_timesteps", 1..=MOST_ROWS)?;
    let kind = config
        .one_of("time_embedding_type", &[("positional", 0), ("fourier", 1), ("learned", 2)])?;
    match (kind, rows) {
        (0, _) => Ok(Features::Positional(sinusoid)),
        (1, _) => Ok(Features::Fourier),
        (_, Some(rows)) => Ok(Features::Learned(rows)),
        (_, None) => {
            Err(Error::invalid("num_train_timesteps is missing, a learned embedding has as many"))
        }
    }
}

fn classes(config: &mut Config) -> Result<Classes> {
    let count = config.opt_usize("num_class_embeds", 1..=MOST_ROWS)?;
    let kinds = &[("timestep", Classes::Times), ("identity", Classes::Vectors)];
    Ok(match (config.opt_one_of("class_embed_type", kinds)?, count) {
        (Some(kind), _) => kind,
        (None, Some(count)) => Classes::Labels(count),
        (None, None) => Classes::None,
    })
}

fn middle(config: &mut Config, style: &Style, channels: usize) -> Result<Option<Middle>> {
    let none = config.is_null("mid_block_type");
    config.one_of("mid_block_type", &[("UNetMidBlock2D", ())])?;
    let groups = config.opt_usize("attn_norm_num_groups", 1..=MOST)?;
    let groups = match (groups, style.adaptive) {
        (None, false) => Some(style.groups_of(channels)),
        (groups, _) => groups,
    };
    let middle = Middle {
        gain: 1.0 / config.f64("mid_block_scale_factor", 1.0, POSITIVE)?,
        attention: config.bool("add_attention", true)?,
        groups,
    };
    Ok((!none).then_some(middle))
}
