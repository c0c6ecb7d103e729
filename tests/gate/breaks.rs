//! The gate itself under test: one deliberate break of each kind, made in a copy of today's headers, must be seen and
//! named; growth must not, but has a number; and a change is let through only where the header owns up to it and is frozen.

use crate::compare::{Frozen, differences, gate, host, plugin};
use crate::frozen::kept;
use crate::reader::{Interface, read};
use crate::tools::header;

/// A header of today with one change in it.
fn changed(name: &str, from: &str, to: &str) -> String {
    let text = header(name);
    assert!(text.contains(from), "{name} contains {from}");
    text.replacen(from, to, 1)
}

/// Both headers of today, one of them with the change.
fn planted(name: &str, from: &str, to: &str) -> (Interface, Interface) {
    let text = |this: &str| if this == name { changed(name, from, to) } else { header(this) };
    (read(&text("diffx.h")), read(&text("diffx_plugin.h")))
}

/// What the gate says of the change, given all that is frozen.
fn verdict(name: &str, from: &str, to: &str) -> Vec<String> {
    let (host, plugin) = planted(name, from, to);
    gate(&kept(), &host, &plugin)
}

/// Each is shown in both headers; a function of a plugin is a slot of a table.
const KINDS: &[&str] = &[
    "moved field",
    "changed width",
    "changed sign",
    "removed function",
    "renumbered constant",
    "changed signature",
    "changed calling convention",
];

fn breaks(said: &[String]) -> Vec<&String> {
    said.iter().filter(|s| s.contains(" breaks ")).collect()
}

/// What the gate says of headers that are frozen as they are.
fn once_frozen(host: &Interface, plugin: &Interface) -> Vec<String> {
    let mut more = kept();
    let (name, excused) = ("v0-next".to_owned(), false);
    more.push(Frozen { name, host: host.clone(), plugin: plugin.clone(), excused });
    gate(&more, host, plugin)
}

#[test]
fn every_kind_of_break_is_caught() {
    let step = "    uint64_t step;                       /* rows run, over all batches ...                   */\n";
    let steps = "    uint64_t n_steps;                    /* ... and how many there will be                   */\n";
    let swapped = format!("{steps}{step}");
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        // kind, header, from, to, named in the verdict
        ("moved field", "diffx.h", &format!("{step}{steps}"), &swapped, "dfx_progress.step moved"),
        (
            "moved slot",
            "diffx_plugin.h",
            "    dfx_process_fn encode; ",
            "    dfx_process_fn newer;\n    dfx_process_fn encode; ",
            "dfx_process_api.encode moved",
        ),
        (
            "moved field",
            "diffx_plugin.h",
            "    uint32_t n_slots;\n    uint32_t n_networks;\n",
            "    uint32_t n_networks;\n    uint32_t n_slots;\n",
            "dfx_guidance_info.n_slots moved",
        ),
        (
            "changed width",
            "diffx_plugin.h",
            "    uint32_t pilot_samples;",
            "    uint64_t pilot_samples;",
            "dfx_grid_api.pilot_samples was uint32_t [1] and is uint64_t",
        ),
        (
            "changed width",
            "diffx.h",
            "uint32_t    n_threads;",
            "uint64_t    n_threads;",
            "dfx_engine_options.n_threads was uint32_t [1] and is uint64_t",
        ),
        (
            "narrowed in place",
            "diffx_plugin.h",
            "uint16_t abi_minor;                  /*",
            "uint8_t abi_minor, more; /*",
            "abi_minor was uint16_t",
        ),
        (
            "changed sign",
            "diffx.h",
            "uint32_t    preview_every;",
            "int32_t    preview_every;",
            "dfx_job_options.preview_every was uint32_t",
        ),
        (
            "changed sign",
            "diffx_plugin.h",
            "    uint32_t predicts; ",
            "    int32_t predicts; ",
            "dfx_model_info.predicts was uint32_t",
        ),
        (
            "removed function",
            "diffx.h",
            "DFX_API void       dfx_job_cancel(const dfx_job *j);",
            "",
            "function dfx_job_cancel is gone",
        ),
        (
            "removed function",
            "diffx_plugin.h",
            "    void       (DFX_CALL *pop)(dfx_graph *g);\n",
            "",
            "dfx_graph_api.pop is gone",
        ),
        (
            "removed field",
            "diffx.h",
            "    uint64_t elapsed_ns;\n",
            "",
            "dfx_progress.elapsed_ns is gone",
        ),
        (
            "removed struct",
            "diffx_plugin.h",
            "dfx_init {",
            "dfx_start {",
            "struct dfx_init is gone",
        ),
        (
            "renumbered constant",
            "diffx.h",
            "#define DFX_JOB_DONE      2u",
            "#define DFX_JOB_DONE      3u",
            "constant DFX_JOB_DONE was 2 and is 3",
        ),
        (
            "renumbered op",
            "diffx_plugin.h",
            "#define DFX_OP_ADD                50u",
            "#define DFX_OP_ADD                49u",
            "constant DFX_OP_ADD was 50 and is 49",
        ),
        (
            "renumbered constant",
            "diffx_plugin.h",
            "#define DFX_KIND_SAMPLER   4u",
            "#define DFX_KIND_SAMPLER   7u",
            "constant DFX_KIND_SAMPLER was 4 and is 7",
        ),
        (
            "renumbered attribute",
            "diffx_plugin.h",
            "#define DFX_ATTR_CAUSAL       21u",
            "#define DFX_ATTR_CAUSAL       22u",
            "constant DFX_ATTR_CAUSAL was 21 and is 22",
        ),
        (
            "renumbered status",
            "diffx_plugin.h",
            "#define DFX_E_PLUGIN    (-12)",
            "#define DFX_E_PLUGIN    (-14)",
            "constant DFX_E_PLUGIN was -12 and is -14",
        ),
        (
            "removed constant",
            "diffx_plugin.h",
            "#define DFX_KIND_GRID      5u",
            "#define DFX_KIND_GRIDS     5u",
            "constant DFX_KIND_GRID is gone",
        ),
        (
            "changed signature",
            "diffx.h",
            "dfx_engine_pump(const dfx_engine *e, uint32_t budget_us)",
            "dfx_engine_pump(const dfx_engine *e, uint64_t budget_us)",
            "function dfx_engine_pump was int32_t (const dfx_engine *, uint32_t)",
        ),
        (
            "changed result",
            "diffx.h",
            "DFX_API uint32_t   dfx_factory_count",
            "DFX_API int32_t   dfx_factory_count",
            "function dfx_factory_count",
        ),
        (
            "lost const",
            "diffx.h",
            "dfx_job_cancel(const dfx_job *j)",
            "dfx_job_cancel(dfx_job *j)",
            "function dfx_job_cancel",
        ),
        (
            "changed callback",
            "diffx.h",
            "*dfx_progress_fn)(void *user, dfx_job *job,",
            "*dfx_progress_fn)(dfx_job *job, void *user,",
            "type dfx_progress_fn was int32_t DFX_CALL DFX_NOEXCEPT (void *, dfx_job *, const dfx_progress *)",
        ),
        (
            "changed signature",
            "diffx_plugin.h",
            "dfx_node   (DFX_CALL *scalar)(dfx_graph *g, double value)",
            "dfx_node   (DFX_CALL *scalar)(dfx_graph *g, float value)",
            "dfx_graph_api.scalar was dfx_node DFX_CALL (dfx_graph *, double)",
        ),
        (
            "changed calling convention",
            "diffx.h",
            "typedef void (DFX_CALL *dfx_log_fn)",
            "typedef void (*dfx_log_fn)",
            "type dfx_log_fn was void DFX_CALL DFX_NOEXCEPT (void *, int32_t, const char *) and is void DFX_N",
        ),
        (
            "changed calling convention",
            "diffx.h",
            "DFX_API void       dfx_job_cancel",
            "DFX_API void DFX_CALL dfx_job_cancel",
            "function dfx_job_cancel was void (const dfx_job *) and is void DFX_CALL (",
        ),
        (
            "changed calling convention",
            "diffx_plugin.h",
            "dfx_node   (DFX_CALL *scalar)",
            "dfx_node   (*scalar)",
            "dfx_graph_api.scalar was dfx_node DFX_CALL (dfx_graph *, double) [1] and is dfx_node (",
        ),
        (
            "another convention by the old name",
            "diffx.h",
            "define DFX_CALL __cdecl",
            "define DFX_CALL __stdcall",
            "macro DFX_CALL was define DFX_CALL __cdecl [ifndef DIFFX_H,",
        ),
        (
            "another convention by the old name",
            "diffx_plugin.h",
            "define DFX_CALL __cdecl",
            "define DFX_CALL __stdcall",
            "macro DFX_CALL was define DFX_CALL __cdecl",
        ),
        (
            "another convention where there was none",
            "diffx_plugin.h",
            "#  define DFX_CALL\n",
            "#  define DFX_CALL __attribute__((regparm(3)))\n",
            "macro DFX_CALL was",
        ),
        (
            "another platform",
            "diffx.h",
            "#if defined(_WIN32)\n#  define DFX_CALL",
            "#if defined(_WIN64)\n#  define DFX_CALL",
            "macro DFX_CALL was define DFX_CALL __cdecl",
        ),
        (
            "another convention behind the first",
            "diffx_plugin.h",
            "#define DFX_PLUGIN_MAGIC ",
            "#undef DFX_CALL\n#define DFX_CALL __vectorcall\n#define DFX_PLUGIN_MAGIC ",
            "undef DFX_CALL [ifndef",
        ),
        (
            "callback that may throw",
            "diffx.h",
            "const dfx_progress *p) DFX_NOEXCEPT;",
            "const dfx_progress *p);",
            "type dfx_progress_fn was int32_t DFX_CALL DFX_NOEXCEPT (",
        ),
        (
            "callback that may throw",
            "diffx.h",
            "define DFX_NOEXCEPT noexcept",
            "define DFX_NOEXCEPT",
            "macro DFX_NOEXCEPT was define DFX_NOEXCEPT noexcept [",
        ),
        (
            "changed pointer target",
            "diffx.h",
            "const double     *times;",
            "const float      *times;",
            "dfx_simulate_options.times was const double *",
        ),
        (
            "changed type name",
            "diffx_plugin.h",
            "typedef uint32_t dfx_node; ",
            "typedef uint64_t dfx_node; ",
            "type dfx_node was uint32_t and is uint64_t",
        ),
        (
            "longer array",
            "diffx.h",
            "char       message[496];",
            "char       message[512];",
            "dfx_error.message was char [496]",
        ),
        (
            "grown frozen struct",
            "diffx_plugin.h",
            "    double w_mean, w_var;                /*",
            "    double w_mean, w_var, w_skew;        /*",
            "struct dfx_stats is frozen and got fields",
        ),
        (
            "reserved field of another width",
            "diffx.h",
            "    uint32_t    reserved;\n    const char *device;",
            "    uint64_t    priority;\n    const char *device;",
            "dfx_engine_options.reserved lies elsewhere",
        ),
        (
            "field before the end",
            "diffx.h",
            "    uint64_t elapsed_ns;\n",
            "    uint64_t later;\n    uint64_t elapsed_ns;\n",
            "dfx_progress.elapsed_ns moved",
        ),
    ];
    for (kind, name, from, to, words) in cases {
        let said = verdict(name, from, to);
        let named = breaks(&said).iter().any(|s| s.contains(words));
        assert!(named, "{kind}: want {words:?} in {said:#?}");
    }
    for kind in KINDS {
        for header in ["diffx.h", "diffx_plugin.h"] {
            assert!(cases.iter().any(|c| c.0 == *kind && c.1 == header), "{kind} in {header}");
        }
    }
    println!("{} breaks, all caught", cases.len());
}

/// Growth is refused as it stands and when it is frozen without a number, and passes with a higher minor and frozen.
#[test]
fn growth_is_no_break() {
    let tail = "    dfx_status (DFX_CALL *fit)(const void *self, dfx_fit *io, dfx_error *err);\n";
    for (name, from, to) in [
        (
            "diffx.h",
            "    uint64_t elapsed_ns;\n",
            "    uint64_t elapsed_ns;\n    uint64_t later;\n",
        ),
        (
            "diffx.h",
            "DFX_API void       dfx_job_cancel",
            "DFX_API void dfx_job_pause(const dfx_job *j);\nDFX_API void       dfx_job_cancel",
        ),
        (
            "diffx.h",
            "#define DFX_JOB_QUEUED    0u",
            "#define DFX_JOB_QUEUED    0u\n#define DFX_JOB_PAUSED 5u",
        ),
        (
            "diffx_plugin.h",
            "typedef struct dfx_pilot {",
            "typedef struct dfx_trial {\n    uint32_t struct_size;\n    uint32_t n;\n} dfx_trial;\ntypedef struct dfx_pilot {",
        ),
        // a function at the end of a table
        ("diffx_plugin.h", tail, &format!("{tail}    dfx_process_fn bridge;\n")),
        // a reserved field gets a meaning
        (
            "diffx.h",
            "    uint32_t    reserved;\n    const char *device;",
            "    uint32_t    priority;\n    const char *device;",
        ),
    ] {
        let said = verdict(name, from, to);
        let all_of = |s: &str| s.contains(name) && s.contains("freeze another: ");
        assert!(said.len() == 1 && all_of(&said[0]), "{from} -> {to}: {said:#?}");
        let grown = changed(name, from, to);
        let both = |text: &str| {
            let one = |this: &str| read(&if this == name { text.to_owned() } else { header(this) });
            (one("diffx.h"), one("diffx_plugin.h"))
        };
        let (host, plugin) = both(&grown);
        let said = once_frozen(&host, &plugin);
        assert!(said.len() == 1 && said[0].contains("without a higher DFX_"), "{said:#?}");
        let stamp = if name == "diffx.h" { "DFX_API_MINOR" } else { "DFX_PLUGIN_ABI_MINOR" };
        let minor = read(&grown).stamp(stamp);
        let numbered = |to: i128| {
            let line = format!("#define {stamp} {minor}\n");
            assert!(grown.contains(&line), "{line}");
            let (host, plugin) = both(&grown.replace(&line, &format!("#define {stamp} {to}\n")));
            once_frozen(&host, &plugin)
        };
        assert_eq!(numbered(minor + 1), [""; 0], "{from} -> {to}");
        let said = numbered(minor - 1);
        assert!(said.len() == 1 && said[0].contains("without a higher DFX_"), "{said:#?}");
    }
}

/// Names of arguments and comments are not the ABI.
#[test]
fn words_are_no_change() {
    for (name, from, to) in [
        ("diffx_plugin.h", "    dfx_process_fn sde; ", "    dfx_process_fn sde; /* (x) */"),
        ("diffx.h", "uint32_t budget_us)", "uint32_t microseconds /* about */)"),
        ("diffx.h", "#  define DFX_CALL __cdecl", "#   define  DFX_CALL   __cdecl /* theirs */"),
    ] {
        assert_eq!(verdict(name, from, to), [""; 0], "{from} -> {to}");
    }
}

/// The excuse of the past is one: without it the pair is refused.
#[test]
fn growth_of_the_past_needs_its_excuse() {
    let mut all = kept();
    assert!(all[1].excused);
    all[1].excused = false;
    let said = gate(&all, &read(&header("diffx.h")), &read(&header("diffx_plugin.h")));
    let words =
        "diffx.h of v0-2026-11-23 is not that of v0-2026-11, without a higher DFX_API_MINOR";
    assert_eq!(said, [words]);
}

/// While the major is 0 a break may be owned up to; from 1 on it may not.
#[test]
fn a_break_is_excused_only_by_another_generation() {
    let old = header("diffx_plugin.h");
    let broken = changed("diffx_plugin.h", "    uint32_t predicts; ", "    int32_t predicts; ");
    let (was, is) = (read(&old), read(&broken));
    assert_eq!(plugin(&was, &is).len(), 1);
    let other = |from: &str, to: &str| {
        assert!(broken.contains(from));
        read(&broken.replacen(from, to, 1))
    };
    let layout = old.lines().find(|l| l.starts_with("#define DFX_PLUGIN_LAYOUT")).unwrap();
    assert_eq!(plugin(&was, &other(layout, "#define DFX_PLUGIN_LAYOUT 0x12345678u")), [""; 0]);
    // a minor is for growth alone
    let minor = format!("#define DFX_PLUGIN_ABI_MINOR {}", was.stamp("DFX_PLUGIN_ABI_MINOR"));
    assert_eq!(plugin(&was, &other(&minor, "#define DFX_PLUGIN_ABI_MINOR 99")).len(), 1);
    // the same two headers, both of major 1: nothing excuses
    let major = |text: &str| {
        read(&text.replace("#define DFX_PLUGIN_ABI_MAJOR 0", "#define DFX_PLUGIN_ABI_MAJOR 1"))
    };
    let owned = broken
        .replace(layout, "#define DFX_PLUGIN_LAYOUT 0x12345678u")
        .replace(&minor, "#define DFX_PLUGIN_ABI_MINOR 99");
    assert_eq!(plugin(&major(&old), &major(&owned)).len(), 1);
    // and the stamp of one header does not excuse the other
    let host_old = read(&header("diffx.h"));
    let gone = changed("diffx.h", "DFX_API void       dfx_job_cancel(const dfx_job *j);", "");
    assert_eq!(host(&host_old, &read(&gone)), ["function dfx_job_cancel is gone"]);
    // diffx.h has its minor for both, a higher one
    let minor = format!("#define DFX_API_MINOR {}", host_old.stamp("DFX_API_MINOR"));
    let with = |to: &str| read(&gone.replacen(&minor, &format!("#define DFX_API_MINOR {to}"), 1));
    assert_eq!(host(&host_old, &with("99")), [""; 0]);
    assert_eq!(host(&host_old, &with("0")), ["function dfx_job_cancel is gone"]);
    assert_eq!(differences(&host_old, &host_old), [""; 0]);
}

/// Owning up is not enough: a header with another stamp passes when it is frozen, and from then on may not change.
#[test]
fn another_generation_is_frozen_before_it_passes() {
    let layout = header("diffx_plugin.h");
    let layout = layout.lines().find(|l| l.starts_with("#define DFX_PLUGIN_LAYOUT")).unwrap();
    let op = "#define DFX_OP_ADD                50u";
    for (name, stamp, to, from, broken) in [
        (
            "diffx_plugin.h",
            layout,
            "#define DFX_PLUGIN_LAYOUT 0x12345678u",
            op,
            "#define DFX_OP_ADD 49u",
        ),
        (
            "diffx.h",
            "#define DFX_API_MINOR 1",
            "#define DFX_API_MINOR 2",
            "#define DFX_JOB_DONE      2u",
            "#define DFX_JOB_DONE 3u",
        ),
    ] {
        // the break alone, the stamp alone, both
        let alone = verdict(name, from, broken);
        assert!(
            !breaks(&alone).is_empty() && breaks(&alone).len() + 1 == alone.len(),
            "{alone:#?}"
        );
        let said = verdict(name, stamp, to);
        assert!(said.len() == 1 && said[0].contains("freeze another"), "{said:#?}");
        let text = changed(name, stamp, to).replacen(from, broken, 1);
        let both = |this: &str| read(&if this == name { text.clone() } else { header(this) });
        let (host, plugin) = (both("diffx.h"), both("diffx_plugin.h"));
        let said = gate(&kept(), &host, &plugin);
        assert!(said.len() == 1 && said[0].contains("freeze another"), "{said:#?}");
        // frozen: it passes, and today's header no longer does
        let mut more = kept();
        let (next, excused) = ("v0-next".to_owned(), false);
        more.push(Frozen { name: next, host: host.clone(), plugin: plugin.clone(), excused });
        assert_eq!(gate(&more, &host, &plugin), [""; 0]);
        let back = gate(&more, &read(&header("diffx.h")), &read(&header("diffx_plugin.h")));
        assert!(!back.is_empty());
        // and what it broke may not be broken once more under the same stamp
        let again =
            read(&text.replacen(broken, &broken.replace("49u", "48u").replace(" 3u", " 9u"), 1));
        let said = if name == "diffx.h" {
            gate(&more, &again, &plugin)
        } else {
            gate(&more, &host, &again)
        };
        let broke = breaks(&said);
        assert!(broke.len() == 1 && broke[0].contains("breaks v0-next"), "{said:#?}");
    }
}

/// The reader sees everything: counted by other means.
#[test]
fn the_reader_misses_nothing() {
    for name in ["diffx.h", "diffx_plugin.h"] {
        let (text, found) = (header(name), read(&header(name)));
        let count = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
        assert_eq!(found.functions.len(), count("DFX_API "), "functions of {name}");
        let open = |l: &&str| {
            (l.starts_with("typedef struct ") || l.starts_with("struct ")) && l.contains('{')
        };
        assert_eq!(found.structs.len(), text.lines().filter(open).count(), "structs of {name}");
        let pointers = found
            .types
            .values()
            .chain(found.structs.iter().flat_map(|s| s.fields.iter().map(|f| &f.ty)));
        let called = pointers.filter(|ty| ty.contains(" DFX_CALL ")).count();
        assert_eq!(called, text.matches("(DFX_CALL *").count(), "callbacks of {name}");
        for prefix in ["DFX_OP_", "DFX_ATTR_", "DFX_E_", "DFX_KIND_", "DFX_JOB_", "DFX_PURPOSE_"] {
            let mine = found.constants.keys().filter(|k| k.starts_with(prefix)).count();
            let theirs = text
                .lines()
                .filter(|l| l.starts_with(&format!("#define {prefix}")) && !l.contains("_INIT {"))
                .count();
            assert_eq!(mine, theirs, "{prefix} of {name}");
        }
    }
}
