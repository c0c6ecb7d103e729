//! Reads the two C headers as what they promise: constants, types, functions, and structs field by field. The headers
//! are written in a plain style (fixed-width numbers, pointers, arrays, one declaration a statement), which this holds
//! them to: what it cannot read fails the test.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// As written, with single spaces and without names of arguments.
    pub(crate) ty: String,
    /// Elements of an array; 1 otherwise.
    pub(crate) count: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    /// Begins with its size and is not marked frozen: may grow at its end.
    pub(crate) grows: bool,
}

/// Everything a binary can depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Interface {
    pub(crate) constants: BTreeMap<String, i128>,
    /// Of `MACROS`: each definition with where it holds, in the order of the header.
    pub(crate) macros: BTreeMap<String, String>,
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) functions: BTreeMap<String, String>,
    pub(crate) structs: Vec<Struct>,
}

/// Words of signatures that are macros: what they stand for on each platform is part of the ABI.
const MACROS: &[&str] = &["DFX_CALL", "DFX_NOEXCEPT"];

/// Constants that say which version this is: they are meant to change.
pub(crate) const STAMPS: &[&str] = &[
    "DFX_API_MAJOR",
    "DFX_API_MINOR",
    "DFX_PLUGIN_ABI_MAJOR",
    "DFX_PLUGIN_ABI_MINOR",
    "DFX_PLUGIN_LAYOUT",
];

impl Interface {
    pub(crate) fn structure(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }

    pub(crate) fn stamp(&self, name: &str) -> i128 {
        self.constants.get(name).copied().unwrap_or(-1)
    }
}

pub(crate) fn read(header: &str) -> Interface {
    let mut out = Interface::default();
    let frozen: Vec<&str> = header
        .lines()
        .filter(|l| l.contains('{') && l.contains("/* frozen"))
        .filter_map(|l| {
            l.trim_start_matches("typedef ").strip_prefix("struct ")?.split_whitespace().next()
        })
        .collect();
    let text = without_comments(header);
    let text = match (text.find("#ifdef DFX_HELPERS"), text.rfind("#undef DFX_BINARY")) {
        (Some(from), Some(_)) => {
            let end = text.rfind("#ifdef __cplusplus").expect("the end of extern C");
            format!("{}{}", &text[..from], &text[end..])
        }
        _ => text,
    };
    let (mut code, mut inside) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(directive) = line.trim_start().strip_prefix('#') else {
            code.push_str(line);
            code.push('\n');
            continue;
        };
        let mut whole = directive.trim_end().to_owned();
        while let Some(more) = whole.strip_suffix('\\') {
            whole = format!("{more} {}", lines.next().unwrap_or_default().trim());
        }
        let whole = whole.split_whitespace().collect::<Vec<_>>().join(" ");
        conditional(&whole, &mut inside);
        let defined = whole.strip_prefix("define ").or_else(|| whole.strip_prefix("undef "));
        if let Some((name, _)) = defined.map(|d| d.split_once(' ').unwrap_or((d, "")))
            && MACROS.contains(&name)
        {
            let all: &mut String = out.macros.entry(name.to_owned()).or_default();
            all.push_str(if all.is_empty() { "" } else { "; " });
            all.push_str(&format!("{whole} [{}]", inside.join(", ")));
        }
        if let Some(rest) = whole.strip_prefix("define ") {
            let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
            if let Some(value) = number(value.trim()).filter(|_| !name.contains('(')) {
                out.constants.insert(name.to_owned(), value);
            }
        }
    }
    let code = code.replace("extern \"C\" {", " ");
    for statement in statements(&code) {
        declare(&statement, &frozen, &mut out);
    }
    out
}

/// Keeps what holds where we are: the directives we are inside of, the branches not taken before this one included.
fn conditional(directive: &str, inside: &mut Vec<String>) {
    let word = directive.split([' ', '(']).next().unwrap_or_default();
    match word {
        "if" | "ifdef" | "ifndef" => inside.push(directive.to_owned()),
        "elif" | "else" => {
            let before = inside.last_mut().expect("an #if before");
            *before = format!("{before} {directive}");
        }
        "endif" => drop(inside.pop().expect("an #if before")),
        _ => {}
    }
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        out.push(' ');
        let (comment, after) = after.split_once("*/").expect("a comment ends");
        out.extend(comment.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    out + rest
}

/// `7u`, `(-3)`, `0x50584644u`, `(~(uint64_t)0)`.
fn number(text: &str) -> Option<i128> {
    let bare = text.trim_start_matches('(').trim_end_matches(')');
    if text == "(~(uint64_t)0)" {
        return Some(i128::from(u64::MAX));
    }
    let (sign, digits) = bare.strip_prefix('-').map_or((1, bare), |d| (-1, d));
    let digits = digits.trim_end_matches(['u', 'U', 'l', 'L']);
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(sign * value)
}

/// Declarations up to their semicolon outside braces, with single spaces.
fn statements(code: &str) -> Vec<String> {
    let (mut out, mut depth, mut now) = (Vec::new(), 0i32, String::new());
    for c in code.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            depth = 0; // the end of extern "C"
            continue;
        }
        if c == ';' && depth == 0 {
            out.push(std::mem::take(&mut now));
        } else {
            now.push(c);
        }
    }
    out.iter()
        .map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|s| !s.is_empty())
        .collect()
}

fn declare(statement: &str, frozen: &[&str], out: &mut Interface) {
    let text = statement.trim();
    if text.starts_with("DFX_STATIC_ASSERT") {
        return;
    }
    if let (Some(open), Some(close)) = (text.find('{'), text.rfind('}')) {
        let head = text[..open].trim().trim_start_matches("typedef ");
        let name =
            head.strip_prefix("struct ").unwrap_or_else(|| panic!("a struct: {text}")).trim();
        let fields = fields(&text[open + 1..close], out);
        let sized = fields.first().is_some_and(|f| f.name == "struct_size" && f.ty == "uint32_t");
        let grows = sized && !frozen.contains(&name);
        assert!(out.structure(name).is_none(), "{name} twice");
        out.structs.push(Struct { name: name.to_owned(), fields, grows });
        return;
    }
    if let Some(rest) = text.strip_prefix("DFX_API ") {
        let (name, signature) = callable(rest);
        assert!(out.functions.insert(name.clone(), signature).is_none(), "{name} twice");
        return;
    }
    if let Some(rest) = text.strip_prefix("typedef ") {
        let (name, ty) = if rest.contains('(') { callable(rest) } else { declarator(rest) };
        out.types.insert(name, ty);
        return;
    }
    assert!(
        text.starts_with("struct ") && !text.contains('('),
        "this header has something else: {text}"
    );
}

fn fields(body: &str, known: &Interface) -> Vec<Field> {
    let mut out = Vec::new();
    for line in body.split(';').map(str::trim).filter(|l| !l.is_empty()) {
        if line.contains('(') {
            let (name, ty) = callable(line);
            out.push(Field { name, ty, count: 1 });
            continue;
        }
        let mut names = line.split(',');
        let (first, ty) = declarator(names.next().unwrap_or_default());
        for name in std::iter::once(first).chain(names.map(|n| n.trim().to_owned())) {
            let (name, count) = match name.trim_end_matches(']').split_once('[') {
                None => (name.clone(), 1),
                Some((name, n)) => {
                    let n = n.parse().ok().or_else(|| known.constants.get(n).map(|v| *v as u64));
                    (name.to_owned(), n.unwrap_or_else(|| panic!("the length of {line}")))
                }
            };
            out.push(Field { name, ty: ty.clone(), count });
        }
    }
    out
}

/// `const char *name` as (name, type).
fn declarator(text: &str) -> (String, String) {
    let at = text.rfind([' ', '*']).unwrap_or_else(|| panic!("a declaration: {text}"));
    (text[at + 1..].to_owned(), spaced(&text[..=at]))
}

fn spaced(ty: &str) -> String {
    ty.replace('*', " * ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `ret (CALL *name)(args) END` or `ret name(args) END` as (name, "ret CALL END (types)"): how a function is called and
/// what it promises stand before the brackets, so that the type of a pointer to one ends in a bracket.
fn callable(text: &str) -> (String, String) {
    let close = text.rfind(')').unwrap_or_else(|| panic!("a function has arguments: {text}"));
    let (text, end) = (&text[..close], text[close + 1..].trim());
    let (name, head, args) = match text.split_once(")(").or_else(|| text.split_once(") (")) {
        Some((pointer, args)) => {
            let (ret, pointer) = pointer.split_once('(').expect("a function pointer begins");
            let (call, name) = pointer.rsplit_once('*').expect("a function pointer");
            (name.trim().to_owned(), format!("{} {call}", spaced(ret)), args)
        }
        None => {
            let (head, args) = text.split_once('(').expect("a function has arguments");
            let (name, ret) = declarator(head.trim());
            (name, ret, args)
        }
    };
    let args: Vec<String> = args.split(',').map(argument).collect();
    let head = format!("{head} {end}").split_whitespace().collect::<Vec<_>>().join(" ");
    (name, format!("{head} ({})", args.join(", ")))
}

/// The type of an argument, without its name.
fn argument(text: &str) -> String {
    let spaced = spaced(text);
    let words: Vec<&str> = spaced.split(' ').collect();
    let is_word = |w: &str| !matches!(w, "*" | "const" | "struct");
    let named =
        words.iter().filter(|w| is_word(w)).count() > 1 && words.last().is_some_and(|w| is_word(w));
    words[..words.len() - usize::from(named)].join(" ")
}
