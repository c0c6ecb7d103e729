//! The built-in models, one file each, on the plugin SDK alone. `layer` holds what they share.

mod layer;
mod mlp;
mod null;
mod temporal;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.models",
    license: "MIT OR Apache-2.0",
    models: [null::Null, mlp::Mlp, temporal::Temporal],
}
