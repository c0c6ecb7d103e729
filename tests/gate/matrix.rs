//! Skew. Frozen hosts and plugins, built against their own headers, run on today's engine and give what the same
//! sources give when they are built against today's headers, as long as the engine lists their layout; a plugin of another
//! is refused, with its version for a reason. And the other way round: plugins and hosts of a header that does not exist yet, derived from today's by
//! growing it, work as far as the rules say and are refused in words beyond that.
//!
//! `DIFFX_TEST_ENGINE=/path/libdiffx.so` puts another engine in place of today's: an older release, once there is one.

use crate::frozen::generations;
use crate::reader::read;
use crate::tools::{engine, folder, has, header, host, plugin, root, run, source};
use diffx::plugin::LAYOUTS;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn frozen_hosts_and_plugins_run_on_todays_engine() {
    let (Some(library), true) = (engine(), has("cc")) else { return };
    let today = root().join("include");
    let newest = generations().pop().expect("something is frozen");
    for generation in generations() {
        let name = generation.file_name().unwrap().to_string_lossy().into_owned();
        let dir = folder(&name);
        let old = generation.join("include");
        let built = |what: &str, include: &Path| {
            let age = if include == today { "new" } else { "old" };
            let out = dir.join(format!("{what}-{age}"));
            match what {
                "host" => host(include, &generation.join("host.c"), &out, &[]),
                _ => plugin(include, &generation.join("plugin.c"), &out, &[]),
            }
            out
        };
        let layout = |include: &Path| {
            let text = std::fs::read_to_string(include.join("diffx_plugin.h")).unwrap();
            ["DFX_PLUGIN_ABI_MINOR", "DFX_PLUGIN_LAYOUT"].map(|s| read(&text).stamp(s))
        };
        let runs = accepted(layout(&old), LAYOUTS);
        // nothing a descriptor tells is another, so no engine may mind the minor
        assert!(runs || layout(&old)[1] != layout(&today)[1], "{name}: not in LAYOUTS");
        let (old_host, new_host) = (built("host", &old), built("host", &today));
        let (old_plugin, new_plugin) = (built("plugin", &old), built("plugin", &today));
        let say =
            |host: &PathBuf, plugin: &PathBuf| run(Command::new(host).arg(&library).arg(plugin));
        let both_new = say(&new_host, &new_plugin);
        assert!(
            both_new.contains("\nplugin: ") && both_new.contains("\norg.frozen.gauss: "),
            "{both_new}"
        );
        assert!(both_new.contains("left: 0 bytes"), "{both_new}");
        assert!(!both_new.contains("wrong") && !both_new.contains("gone"), "{both_new}");
        assert_eq!(say(&old_host, &new_plugin), both_new, "{name}: an old host");
        for host in [&new_host, &old_host] {
            let said = say(host, &old_plugin);
            if runs {
                assert_eq!(said, both_new, "{name}: an old plugin");
            } else {
                assert_ne!(generation, newest, "the newest frozen plugin is sampled");
                assert!(said.contains("refused for its version: "), "{name}: {said}");
                let rest = |text: &str| {
                    text.lines()
                        .filter(|l| {
                            !l.contains("plugin") && !l.contains("frozen") && !l.contains("refused")
                        })
                        .collect::<Vec<_>>()
                        .join("\n")
                };
                assert_eq!(rest(&said), rest(&both_new), "{name}: an old plugin");
            }
        }
        println!("{name}:\n{both_new}");
    }
}

/// Whether an engine that lists these layouts takes a plugin of this minor and layout.
fn accepted([minor, layout]: [i128; 2], listed: &[(u16, u32)]) -> bool {
    listed.iter().any(|(m, l)| (i128::from(*m), i128::from(*l)) == (minor, layout))
}

#[test]
fn an_older_minor_runs_where_its_layout_is_listed() {
    let stamps = ["DFX_PLUGIN_ABI_MINOR", "DFX_PLUGIN_LAYOUT"];
    let today = stamps.map(|s| read(&header("diffx_plugin.h")).stamp(s));
    assert!(accepted(today, LAYOUTS), "today's header: {today:?}");
    let listed = [(1, 0xaaaa_aaaa), (2, 0xbbbb_bbbb)];
    for (minor, layout, runs) in [
        (2, 0xbbbb_bbbb, true),
        (1, 0xaaaa_aaaa, true),
        (1, 0xbbbb_bbbb, false),
        (0, 0xaaaa_aaaa, false),
    ] {
        assert_eq!(accepted([minor, layout], &listed), runs, "{minor} {layout:#x}");
    }
}

/// The numbers a frozen plugin gives depend on the codes it was built with: with two of them exchanged in a copy of its
/// header it samples something else. Else the matrix above would not see an engine that renumbers.
#[test]
fn a_frozen_plugin_shows_a_renumbered_code() {
    let (Some(library), true) = (engine(), has("cc")) else { return };
    let generation = generations().pop().expect("something is frozen");
    let dir = folder("renumbered");
    let include = generation.join("include");
    host(&include, &generation.join("host.c"), &dir.join("host"), &[]);
    let said = |name: &str, include: &Path| {
        let file = dir.join(format!("{name}.so"));
        plugin(include, &generation.join("plugin.c"), &file, &[]);
        run(Command::new(dir.join("host")).arg(&library).arg(&file))
    };
    let plain = said("plain", &include);
    for (one, other) in [("OP_SIN", "OP_COS"), ("ATTR_REVERSE", "ATTR_EXCLUSIVE")] {
        let text = std::fs::read_to_string(include.join("diffx_plugin.h")).unwrap();
        let code = |name: &str| read(&text).stamp(&format!("DFX_{name}"));
        let (a, b) = (code(one), code(other));
        let renumber = |line: &str| {
            let named = |name: &str| line.starts_with(&format!("#define DFX_{name} "));
            match (named(one), named(other)) {
                (true, _) => format!("#define DFX_{one} {b}u"),
                (_, true) => format!("#define DFX_{other} {a}u"),
                _ => line.to_owned(),
            }
        };
        // comments of two lines lose their second line's beginning: these four have none
        let text: Vec<String> = text.lines().map(renumber).collect();
        let planted = folder("renumbered").join(one);
        std::fs::create_dir_all(&planted).unwrap();
        std::fs::write(planted.join("diffx_plugin.h"), text.join("\n") + "\n").unwrap();
        let now = said(one, &planted);
        let differ: Vec<&str> =
            now.lines().zip(plain.lines()).filter(|(a, b)| a != b).map(|(a, _)| a).collect();
        assert!(differ.iter().any(|l| l.starts_with("plugin: ")), "{one}: {now}");
        assert!(differ.iter().all(|l| l.contains("plugin")), "{one}: {differ:#?}");
    }
}

/// Today's headers, grown: a field or a function at the end of what may grow, new codes, another minor and layout.
fn future() -> PathBuf {
    let dir = folder("future");
    let after = |text: &str, from: &str, what: &str| {
        let at = text.find(from).unwrap_or_else(|| panic!("{from}"));
        let end = text[at..].find(&format!("\n{what}")).unwrap_or_else(|| panic!("{what}"));
        at + end + 1
    };
    let grown = |mut text: String, rows: &[(&str, &str, &str)]| {
        for (from, end, field) in rows {
            let at = after(&text, from, end);
            text.insert_str(at, field);
        }
        text
    };
    let text = grown(
        header("diffx_plugin.h"),
        &[
            ("typedef struct dfx_call {", "} dfx_call;", "    uint64_t        future;\n"),
            ("typedef struct dfx_step_io {", "} dfx_step_io;", "    uint64_t        future;\n"),
            ("struct dfx_host {", "};", "    void        (DFX_CALL *future)(const dfx_host *h);\n"),
            (
                "typedef struct dfx_sampler_api {",
                "} dfx_sampler_api;",
                "    dfx_status (DFX_CALL *later)(const void *self, dfx_error *err);\n",
            ),
            ("typedef struct dfx_plugin {", "} dfx_plugin;", "    const void *future;\n"),
            ("#define DFX_OP_FULL", "#define DFX_OP_IOTA", "#define DFX_OP_FUTURE 9001u\n"),
            ("#define DFX_KIND_MODEL", "#define DFX_KIND_PROCESS", "#define DFX_KIND_FUTURE 77u\n"),
        ],
    );
    let minor = read(&text).stamp("DFX_PLUGIN_ABI_MINOR");
    let text = text
        .replace(
            &format!("DFX_PLUGIN_ABI_MINOR {minor}"),
            &format!("DFX_PLUGIN_ABI_MINOR {}", minor + 1),
        )
        .replace("#define DFX_PLUGIN_LAYOUT ", "#define DFX_PLUGIN_LAYOUT 0x0badcafeu /* */ + 0 * ")
        .replace(
            "    c.reserved = 0;\n    return e->emit",
            "    c.reserved = 0;\n    c.future = 0;\n    return e->emit",
        );
    std::fs::write(dir.join("diffx_plugin.h"), text).unwrap();
    let host = grown(
        header("diffx.h"),
        &[("typedef struct dfx_job_options {", "} dfx_job_options;", "    uint64_t    future;\n")],
    );
    let init =
        host.lines().find(|l| l.starts_with("#define DFX_JOB_OPTIONS_INIT")).unwrap().to_owned();
    let host = host.replace(&init, &init.replace(" 0 }", " 0, 0 }"));
    std::fs::write(dir.join("diffx.h"), host).unwrap();
    dir
}

/// What skew.c says of a plugin of `include`, line by line.
fn said(library: &Path, host: &Path, include: &Path, sample: u32, required: &str) -> Vec<String> {
    let file = folder("newer").join(format!("newer-{sample}-{}.so", required.len()));
    let flags = [format!("-DSAMPLE={sample}"), format!("-DREQUIRED={required}")];
    plugin(include, &source("newer.c"), &file, &flags.each_ref().map(String::as_str));
    run(Command::new(host).arg(library).arg(&file)).lines().map(str::to_owned).collect()
}

#[test]
fn newer_plugins_and_hosts_on_this_engine() {
    let (Some(library), true) = (engine(), has("cc")) else { return };
    let (today, dir) = (root().join("include"), future());
    let (now, later) = (folder("newer").join("host-now"), folder("newer").join("host-later"));
    host(&today, &source("skew.c"), &now, &[]);
    host(&dir, &source("skew.c"), &later, &["-DFUTURE"]);
    let newer = |sample, required| said(&library, &now, &dir, sample, required);

    // asks before it uses what is new: the same bits as the same plugin of today
    let plain = said(&library, &now, &today, 0, "0");
    assert!(plain.len() == 2 && plain.iter().all(|l| l.starts_with("sampled ")), "{plain:#?}");
    assert_eq!(newer(1, "0"), plain);
    // needs what is new: refused, with both versions
    let refused = newer(1, "DFX_PLUGIN_ABI_MINOR");
    let minor = read(&header("diffx_plugin.h")).stamp("DFX_PLUGIN_ABI_MINOR");
    let words = format!("needs plugin ABI 0.{}, this engine speaks 0.{minor}", minor + 1);
    let line = &refused[1];
    assert!(line.starts_with("load: DFX_E_VERSION") && line.contains(&words), "{refused:#?}");
    // does not ask: the op is named, and the plugin
    let line = &newer(2, "0")[1];
    assert!(
        ["DFX_E_UNSUPPORTED", "op 9001", "org.newer"].iter().all(|w| line.contains(w)),
        "{line}"
    );
    // a larger struct: zero is as before, anything else is refused
    assert_eq!(newer(3, "0")[1].split(' ').next(), Some("sampled"));
    let line = &newer(4, "0")[1];
    assert!(line.contains("DFX_E_UNSUPPORTED") && line.contains("dfx_call: byte"), "{line}");
    // a newer host likewise
    let host = said(&library, &later, &dir, 1, "0");
    assert_eq!(host[..2], plain[..]);
    let line = &host[2];
    assert!(
        line.contains("DFX_E_UNSUPPORTED") && line.contains("dfx_job_options: byte"),
        "{host:#?}"
    );
}
