//! The built-in grids, one file each, on the plugin SDK alone.

mod art;
mod cosine;
mod edm;
mod ends;
mod flow;
mod geometric;
mod list;
mod uniform;
mod uniform_lambda;

diffx_plugin::diffx_plugin! {
    id: "org.diffx.grids",
    license: "MIT OR Apache-2.0",
    grids: [
        art::Art,
        edm::Edm,
        geometric::Geometric,
        uniform::Uniform,
        uniform_lambda::UniformLambda,
        cosine::Cosine,
        flow::Flow,
        list::List,
    ],
}
