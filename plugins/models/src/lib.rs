//! The built-in models, one file each, on the plugin SDK alone. `block` holds what they share.

mod autoencoder_kl;
mod block;
mod csdi;
mod dit;
mod dit_original;
mod edm;
mod llada;
mod mlp;
mod null;
mod score_transformer;
mod tabular;
mod temporal;
mod unet2d;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.models",
    license: "MIT OR Apache-2.0",
    models: [
        null::Null,
        mlp::Mlp,
        temporal::Temporal,
        dit::Dit,
        dit_original::DitOriginal,
        dit_original::Sit,
        csdi::Csdi,
        tabular::TabDdpm,
        tabular::TabSyn,
        score_transformer::ScoreTransformer,
        llada::Llada,
        unet2d::Unet2d,
        edm::SongUnet,
        edm::Dhariwal,
        autoencoder_kl::AutoencoderKl,
    ],
}
