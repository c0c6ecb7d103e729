//! A page as a reader goes through it: sections by heading, fenced blocks in order. A block is a file when a name stands
//! behind its language (```` ```c first.c ````), is run when its language is `sh`, and is what the commands before it
//! print when it is `text`.

use std::path::Path;

pub(crate) struct Block {
    pub(crate) heading: String,
    pub(crate) language: String,
    pub(crate) file: Option<String>,
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Block {
    /// Lines that somebody would type: not comments, not the rest of a line that goes on.
    pub(crate) fn commands(&self) -> usize {
        let joined = self.text.replace("\\\n", " ");
        joined.lines().filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')).count()
    }
}

pub(crate) struct Page {
    blocks: Vec<Block>,
    text: String,
}

pub(crate) fn page(name: &str) -> Page {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let (mut heading, mut blocks, mut open) = (String::new(), Vec::new(), None::<Block>);
    for (i, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, Some(words)) => {
                let (language, file) = words.split_once(' ').unwrap_or((words, ""));
                open = Some(Block {
                    heading: heading.clone(),
                    language: language.into(),
                    file: (!file.is_empty()).then(|| file.into()),
                    text: String::new(),
                    line: i + 1,
                });
            }
            (None, None) => {
                if let Some(words) = line.strip_prefix("## ") {
                    heading = words.into();
                }
            }
        }
    }
    assert!(open.is_none(), "{name}: a block that never ends");
    Page { blocks, text }
}

impl Page {
    /// The blocks under a heading of the second level; there must be some.
    pub(crate) fn section(&self, heading: &str) -> Vec<&Block> {
        let found: Vec<&Block> = self.blocks.iter().filter(|b| b.heading == heading).collect();
        assert!(!found.is_empty(), "no blocks under {heading:?}");
        found
    }

    /// Whether it has these words, wherever its lines end.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words)
    }
}

/// Every line of `wanted` stands in `said`, in this order.
pub(crate) fn shown(wanted: &str, said: &str) {
    let mut lines = said.lines();
    for want in wanted.lines().filter(|l| !l.trim().is_empty()) {
        assert!(
            lines.any(|l| l.trim_end() == want.trim_end()),
            "the page shows {want:?}, not in:\n{said}"
        );
    }
}

/// The tables of functions of the header: the struct, and the fields that are functions.
pub(crate) fn tables(header: &str) -> Vec<(String, Vec<String>)> {
    let mut out = Vec::new();
    for part in header.split("struct dfx_").skip(1) {
        let Some((name, rest)) = part.split_once(" {") else { continue };
        if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let body = rest.split("\n}").next().unwrap();
        let pointers = body.split("(DFX_CALL *").skip(1).filter_map(|p| p.split_once(')'));
        let named = body.lines().filter_map(|l| {
            let (kind, rest) = l.trim_start().split_once("_fn ")?;
            kind.starts_with("dfx_").then_some(rest.trim_start().split_once(';')?.0)
        });
        let functions: Vec<String> =
            pointers.map(|p| p.0.to_owned()).chain(named.map(str::to_owned)).collect();
        if !functions.is_empty() {
            out.push((format!("dfx_{name}"), functions));
        }
    }
    out
}
