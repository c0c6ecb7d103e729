//! Networks of tables: `MLPDiffusion` of yandex-research/tab-ddpm, and that of amazon-science/tabsyn with the names of its
//! `Precond`, whose preconditioning is the process's.

use crate::block::embedding::{Sinusoid, Spacing, table, two_layers};
use crate::block::predicts::PREDICTS;
use crate::block::{Start, linear};
use core::ffi::CStr;
use diffx_plugin::{
    Builder, Component, Cond, Config, Error, Factory, Model, ModelInfo, ModelIo, Node, Predicts,
    Result, abi, schema,
};

pub(crate) struct TabDdpm {
    inputs: usize,
    /// 0: the target is a number.
    classes: usize,
    conditional: bool,
    layers: Vec<usize>,
    time: usize,
    predicts: Predicts,
}

/// A target that is not given, and the bound below which one is not.
const NULL: f64 = -1e9;
const UNKNOWN: f64 = -1e8;

impl Factory for TabDdpm {
    const ID: &'static CStr = c"org.diffx.tabddpm";
    const SUMMARY: &'static CStr = c"multilayer perceptron over the columns of a table";
    const SCHEMA: Option<&'static CStr> = schema![
        "d_in": integer "columns, each class of a categorical one counted", default 2, minimum 1, maximum 1048576;
        "num_classes": integer "classes of the target; 0: it is a number", default 0, minimum 0, maximum 16777216;
        "is_y_cond": boolean "whether the target is a condition", default false;
        "d_layers": integers "widths of the layers, of rtdl_params; default [256, 256]", minimum 1, maximum 1048576;
        "dim_t": integer "features of the time", default 128, minimum 2, maximum 1048576;
        "predicts": string "what the output means; residual leaves it to the process", default "residual", enum ["residual", "denoised", "noise", "velocity", "score", "value", "v"];
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let layers = config.usizes("d_layers", 1..=1 << 20)?.unwrap_or_else(|| vec![256, 256]);
        if layers.is_empty() || layers.len() > 1024 {
            let n = layers.len();
            return Err(Error::invalid(format!("d_layers has {n} layers, want 1 to 1024")));
        }
        Ok(Self {
            inputs: config.usize("d_in", 2, 1..=1 << 20)?,
            classes: config.usize("num_classes", 0, 0..=1 << 24)?,
            conditional: config.bool("is_y_cond", false)?,
            layers,
            time: config.usize("dim_t", 128, 2..=1 << 20)?,
            predicts: config.one_of("predicts", PREDICTS)?,
        })
    }
}

impl Model for TabDdpm {
    fn info(&self) -> ModelInfo {
        let y = Cond {
            name: "y".into(),
            dims: vec![],
            dtype: if self.classes > 0 { abi::I32 } else { 0 },
            null_value: if self.classes > 0 { -1.0 } else { NULL },
        };
        ModelInfo {
            predicts: self.predicts,
            components: vec![Component::continuous("x", &[self.inputs as i64])],
            conds: if self.conditional { vec![y] } else { vec![] },
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let time = self.time;
        let sinusoid = Sinusoid {
            width: time,
            spacing: Spacing::Exp { shift: 0.0 },
            period: 1e4,
            cos_first: true,
        };
        let names = ["time_embed.0", "time_embed.2"];
        let mut e = two_layers(b, names, sinusoid.of(b, io.sigma(0)), time, time);
        if self.conditional {
            e = e + self.target(b, io.cond(0));
        }
        let mut h = linear(b, "proj", io.x(0), self.inputs, time, Start::Spread) + e;
        let mut width = time;
        for (i, next) in self.layers.iter().enumerate() {
            let name = format!("mlp.blocks.{i}.linear");
            h = linear(b, &name, h, width, *next, Start::Spread).relu();
            width = *next;
        }
        io.set_out(0, linear(b, "mlp.head", h, width, self.inputs, Start::Spread));
        Ok(())
    }
}

impl TabDdpm {
    /// What a target adds; one that is not given adds nothing.
    fn target<'b>(&self, b: Builder<'b>, y: Node<'b>) -> Node<'b> {
        let (e, known) = match self.classes {
            0 => {
                let y = y.reshape(&[-1, 1]);
                let known = y.greater(UNKNOWN);
                let level = known.choose(y, 0.0);
                (linear(b, "label_emb", level, 1, self.time, Start::Spread), known)
            }
            n => {
                let known = y.cast(0).greater_eq(0.0).reshape(&[-1, 1]);
                (table(b, "label_emb.weight", y, n, self.time), known)
            }
        };
        known.choose(e.silu(), 0.0)
    }
}

pub(crate) struct TabSyn {
    inputs: usize,
    time: usize,
}

impl Factory for TabSyn {
    const ID: &'static CStr = c"org.diffx.tabsyn";
    const SUMMARY: &'static CStr = c"multilayer perceptron over the latents of a table";
    const SCHEMA: Option<&'static CStr> = schema![
        "d_in": integer "features of a row", default 2, minimum 1, maximum 1048576;
        "dim_t": integer "features of the time, a multiple of 2", default 512, minimum 2, maximum 1048576;
    ];

    fn create(config: &mut Config) -> Result<Self> {
        let time = config.usize("dim_t", 512, 2..=1 << 20)?;
        if !time.is_multiple_of(2) {
            return Err(Error::invalid(format!("dim_t is {time}, want an even number")));
        }
        Ok(Self { inputs: config.usize("d_in", 2, 1..=1 << 20)?, time })
    }
}

impl Model for TabSyn {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            predicts: Predicts::Residual,
            components: vec![Component::continuous("x", &[self.inputs as i64])],
            conds: vec![],
            slots: vec![],
        }
    }

    fn build<'b>(&self, b: Builder<'b>, io: &mut ModelIo<'b>) -> Result<()> {
        let (inputs, time) = (self.inputs, self.time);
        let sinusoid = Sinusoid {
            width: time,
            spacing: Spacing::Power { shift: 0.0 },
            period: 1e4,
            cos_first: false,
        };
        let part = |p: &str| format!("denoise_fn_F.{p}");
        let names = [part("time_embed.0"), part("time_embed.2")];
        let e = sinusoid.of(b, io.sigma(0));
        let e = two_layers(b, names.each_ref().map(String::as_str), e, time, time);
        let mut h = linear(b, &part("proj"), io.x(0), inputs, time, Start::Spread) + e;
        let sizes = [time, 2 * time, 2 * time, time, inputs];
        for (i, pair) in sizes.windows(2).enumerate() {
            let &[from, to] = pair else { continue };
            h = if i == 0 { h } else { h.silu() };
            h = linear(b, &part(&format!("mlp.{}", 2 * i)), h, from, to, Start::Spread);
        }
        io.set_out(0, h);
        Ok(())
    }
}
