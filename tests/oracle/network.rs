//! A network of a checkpoint, opened as a host opens it and asked alone: named inputs in, outputs and gradients out.

use crate::Answer;
use crate::array::Array;
use diffx::base::{DType, Error};
use diffx::engine::{Engine, Evaluation, OpenModel, Options, Pipeline};
use diffx::mem::Tensor;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Network {
    pub model: Arc<OpenModel>,
    slot: String,
    float: DType,
}

/// An engine that runs on this thread.
pub(crate) fn engine() -> Arc<Engine> {
    Engine::new(Options { no_threads: true, ..Options::default() }).expect("an engine")
}

fn sentence(e: Error) -> String {
    e.to_string()
}

impl Network {
    /// The network of a component's folder or a file; weights as written, arithmetic in f32.
    pub(crate) fn open(path: &Path) -> Answer<Self> {
        Self::open_slot(path, "base")
    }

    /// Another network of the same, as `vae` of a pipeline's folder.
    pub(crate) fn open_slot(path: &Path, slot: &str) -> Answer<Self> {
        Self::open_with(path, slot, "")
    }

    /// With a model config: `{"model": {...}}` replaces settings of the network (sizes that a config does not say).
    pub(crate) fn open_with(path: &Path, slot: &str, config: &str) -> Answer<Self> {
        let path = path.to_str().ok_or("a path that is no text")?;
        let model = OpenModel::open(&engine(), path, config).map_err(sentence)?;
        Ok(Self { model, slot: slot.to_owned(), float: DType::F32 })
    }

    /// The same in f64: the reference's exact value, where a test wants one.
    pub(crate) fn in_f64(mut self) -> Self {
        self.float = DType::F64;
        self
    }

    /// The output of form `phase` of a network with one component. Inputs: the component by its name (`x`), `sigma`
    /// (the noise input as the network takes it, such as a timestep; 0 where absent), conditions by name.
    pub(crate) fn forward(&self, phase: u32, inputs: &[(&str, &Array)]) -> Answer<Array> {
        let name = self.component()?;
        let mut out = self.evaluate(phase, inputs, &[name])?;
        Ok(Array::of(&out.remove(0)))
    }

    /// Gradients by inputs (`x`, `sigma`, a condition) and weights (`weight.NAME`) of the sum of `cotangent` times
    /// the output: for a loss, its derivative by the output.
    pub(crate) fn gradients(
        &self,
        phase: u32,
        inputs: &[(&str, &Array)],
        cotangent: &Array,
        by: &[String],
    ) -> Answer<BTreeMap<String, Array>> {
        let key = format!("cotangent.{}", self.component()?);
        let mut given = inputs.to_vec();
        given.push((&key, cotangent));
        let names: Vec<String> = by.iter().map(|n| format!("grad.{n}")).collect();
        let out = self.evaluate(phase, &given, &names)?;
        Ok(by.iter().cloned().zip(out.iter().map(Array::of)).collect())
    }

    /// The denoiser of a pipeline with the process and the statistics that the checkpoint says: `sigma` is the level.
    pub(crate) fn denoise(&self, inputs: &[(&str, &Array)]) -> Answer<Array> {
        let pipeline = Pipeline::new(&self.model, "{}").map_err(sentence)?;
        let given: Vec<(String, Arc<Tensor>)> =
            inputs.iter().map(|(name, a)| ((*name).to_owned(), a.tensor(self.float))).collect();
        let outputs = [self.component()?];
        let e = Evaluation { slot: "", phase: 0, inputs: &given, outputs: &outputs };
        let mut out = pipeline.evaluate(&e).map_err(sentence)?;
        Ok(Array::of(&out.remove(0)))
    }

    /// Name of the only component.
    pub(crate) fn component(&self) -> Answer<String> {
        let network = self.network()?;
        let info = network.info().map_err(sentence)?;
        match &info.components[..] {
            [one] => Ok(one.name.clone()),
            more => Err(format!("{} components, want one", more.len())),
        }
    }

    fn network(&self) -> Answer<Arc<dyn diffx::sample::Model>> {
        let found = self.model.network(&self.slot).cloned();
        found.ok_or_else(|| format!("no network {}", self.slot))
    }

    pub(crate) fn evaluate(
        &self,
        phase: u32,
        inputs: &[(&str, &Array)],
        outputs: &[String],
    ) -> Answer<Vec<Tensor>> {
        let info = self.network()?.info().map_err(sentence)?;
        let type_of = |name: &str| {
            let component = info.components.iter().find(|c| c.name == name).map(|c| c.dtype);
            let cond = info.conds.iter().find(|c| c.name == name).map(|c| c.desc.dtype);
            component.or(cond).filter(|t| !t.is_float()).unwrap_or(self.float)
        };
        let given: Vec<(String, Arc<Tensor>)> =
            inputs.iter().map(|(name, a)| ((*name).to_owned(), a.tensor(type_of(name)))).collect();
        let e = Evaluation { slot: &self.slot, phase, inputs: &given, outputs };
        self.model.evaluate(&e, self.float).map_err(sentence)
    }
}

/// Names of the parameters in a test's table of gradients.
pub(crate) fn parameters(test: &crate::case::Test) -> Answer<Vec<String>> {
    let Some(path) = &test.grads else { return Err("the test has no table of gradients".into()) };
    let table = test.json(path)?;
    Ok(table["params"].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect())
}

/// Puts the gradients by all of them, with `cotangent` the derivative of the loss by the output.
pub(crate) fn put_gradients(
    test: &crate::case::Test,
    net: &Network,
    inputs: &[(&str, &Array)],
    cotangent: &Array,
    got: &mut crate::compare::Got,
) -> Answer {
    let names = parameters(test)?;
    let by: Vec<String> = names.iter().map(|n| format!("weight.{n}")).collect();
    let mut grads = net.gradients(0, inputs, cotangent, &by)?;
    for (name, key) in names.iter().zip(&by) {
        let grad = grads.remove(key).ok_or_else(|| format!("no gradient by {name}"))?;
        got.put_grad(name, grad);
    }
    Ok(())
}
