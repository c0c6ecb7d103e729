//! The weights in a folder, under the names that diffusers and transformers give their files.

use super::Source;
use crate::base::Result;
use crate::{bail, fail};
use std::path::Path;

/// Stems of files of weights, in the order they are looked up.
const STEMS: &[&str] = &["diffusion_pytorch_model", "model"];
const ENDING: &str = ".safetensors";
const PICKLES: &[&str] = &[".bin", ".pt", ".pth", ".ckpt"];

/// The weights of a component: a whole file before shards, and both before a file of a variant that nobody asked for.
pub(super) fn open(folder: &Path, asked: Option<&str>) -> Result<Source> {
    let variant = asked.map(|v| format!(".{v}")).unwrap_or_default();
    for stem in STEMS {
        let whole = folder.join(format!("{stem}{variant}{ENDING}"));
        if whole.exists() {
            return Source::open(&whole);
        }
        // the variant stands before or behind, by the library's version
        for name in [
            format!("{stem}{ENDING}.index{variant}.json"),
            format!("{stem}{variant}{ENDING}.index.json"),
        ] {
            let path = folder.join(name);
            if path.exists() {
                return Source::sharded(&path);
            }
        }
    }
    let names = names(folder)?;
    let others: Vec<&String> = names
        .iter()
        .filter(|n| STEMS.iter().any(|s| n.starts_with(s)) && n.ends_with(ENDING))
        .collect();
    match (&others[..], asked) {
        ([one], None) => return Source::open(&folder.join(one)),
        ([], _) => {}
        (many, _) => {
            let list: Vec<&str> = many.iter().map(|n| n.as_str()).collect();
            bail!(
                NotFound,
                "{}: no {}{variant}{ENDING}; there are: {}; name one as {{\"variant\": \"fp16\"}}",
                folder.display(),
                STEMS.join(" or "),
                list.join(", ")
            );
        }
    }
    if let Some(asked) = asked {
        bail!(
            NotFound,
            "{}: holds no weights of the variant {asked}, want {}{variant}{ENDING}",
            folder.display(),
            STEMS.join(" or ")
        );
    }
    // a file of its own name, if it is the only one of its kind; a pickle is refused there, with what to do
    for ends in [&[ENDING][..], &[".gguf"], PICKLES] {
        let mut of = names.iter().filter(|n| ends.iter().any(|e| n.ends_with(e)));
        match (of.next(), of.next()) {
            (Some(name), None) => return Source::open(&folder.join(name)),
            (Some(name), Some(_)) if ends == PICKLES => return Source::open(&folder.join(name)),
            _ => {}
        }
    }
    bail!(NotFound, "{}: holds no weights, want {}{ENDING}", folder.display(), STEMS.join(" or "))
}

/// Names of the files of a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    const MOST: usize = 1 << 16;
    let files = std::fs::read_dir(folder).map_err(|e| fail!(Io, "{}: {e}", folder.display()))?;
    let names = files.take(MOST).filter_map(|f| f.ok()?.file_name().into_string().ok());
    let mut out: Vec<String> = names.collect();
    out.sort();
    Ok(out)
}
