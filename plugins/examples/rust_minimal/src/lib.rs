//! A whole plugin: the process x -> w = scale x, perturbed by Gaussian noise ("variance exploding").
//! `cargo build --release`, and load `target/release/libve_example.so`.
//!
//! The C and C++ examples beside this one are the same plugin: all three emit the same nodes in the same order, so
//! their samples agree to the bit.
//!
//! encode: mul(x, scale); decode: div(w, scale); perturb: xi = normal, add(w0, mul(sigma, xi)), target w0;
//! prior: mul(sigma, normal); renoise: add(w, mul(sqrt(sub(square(sigma_hat), square(sigma))), xi));
//! ancestral: add(mu, mul(sqrt(v), xi)); to_score: div(sub(D, w), square(sigma)).

use core::ffi::CStr;
use diffx_plugin::{
    Config, Cx, Error, Factory, Function, Functions, Node, POSITIVE, Precond, Process, ProcessInfo,
    Result, Space, Stats,
};

struct Ve {
    scale: f64,
}

impl Factory for Ve {
    const ID: &'static CStr = c"org.example.ve";
    const SUMMARY: &'static CStr = c"Gaussian noise on scaled data";

    fn create(config: &mut Config) -> Result<Self> {
        Ok(Self { scale: config.f64("scale", 1.0, POSITIVE)? })
    }
}

impl Process for Ve {
    const FUNCTIONS: Functions = Functions::CONTINUOUS.without(Function::LogTransition);

    fn info(&self, stats: &Stats) -> Result<ProcessInfo> {
        if stats.w_var <= 0.0 {
            return Err(Error::invalid("the data has no variance"));
        }
        Ok(ProcessInfo {
            space: Space::Continuous,
            positive: false,
            additive: true,
            sigma_min: 0.002 * stats.w_var.sqrt(),
            sigma_max: 80.0 * stats.w_var.sqrt(),
        })
    }

    fn encode<'b>(&self, _: &Cx<'b>, x: Node<'b>) -> Node<'b> {
        x * self.scale
    }

    fn decode<'b>(&self, _: &Cx<'b>, w: Node<'b>, _: Node<'b>) -> Node<'b> {
        w / self.scale
    }

    fn perturb<'b>(&self, cx: &Cx<'b>, w0: Node<'b>, sigma: Node<'b>) -> [Node<'b>; 2] {
        [w0 + sigma * cx.normal_like(w0), w0]
    }

    fn prior<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Node<'b> {
        sigma * cx.normal()
    }

    /// EDM: c_skip = v/(s²+v), c_out = s √v/√(s²+v), c_in = 1/√(s²+v), c_noise = ln(s)/4, weight 1/c_out².
    fn precond<'b>(&self, cx: &Cx<'b>, sigma: Node<'b>) -> Precond<'b> {
        let v = cx.stats.w_var;
        let total = sigma.square() + v;
        let input = total.rsqrt();
        let out = sigma * v.sqrt() * input;
        let skip = v / total;
        let noise = sigma.log() * 0.25;
        let weight = total / (sigma.square() * v);
        Precond { skip, out, input, noise, weight }
    }

    fn renoise<'b>(&self, cx: &Cx<'b>, w: Node<'b>, s: Node<'b>, s_hat: Node<'b>) -> Node<'b> {
        w + (s_hat.square() - s.square()).sqrt() * cx.normal_like(w)
    }

    fn ancestral<'b>(&self, cx: &Cx<'b>, mu: Node<'b>, v: Node<'b>) -> Node<'b> {
        mu + v.sqrt() * cx.normal_like(mu)
    }

    fn to_score<'b>(&self, _: &Cx<'b>, w: Node<'b>, d: Node<'b>, sigma: Node<'b>) -> Node<'b> {
        (d - w) / sigma.square()
    }
}

diffx_plugin::diffx_plugin! {
    id: "org.example",
    license: "MIT",
    processes: [Ve],
}
