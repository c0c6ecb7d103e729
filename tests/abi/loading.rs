//! Files that are no plugins, descriptors spoilt in each field, and the policy around loading: every refusal has its
//! status and one line, and nothing takes the process down.

use crate::compiler::{folder, library, source};
use crate::rig::{OPEN, config, registry};
use diffx::base::{Error, Status};
use diffx::plugin::{Kind, Trust, abi};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn refusal(file: &Path, trust: &Trust<'_>) -> Error {
    let (mut registry, _) = registry();
    let e = registry.load(file, trust).expect_err(&format!("{} is refused", file.display()));
    assert!(!e.message.contains('\n'), "one line: {}", e.message);
    assert_eq!(registry.factories().count(), 0);
    e
}

fn expect(file: &Path, trust: &Trust<'_>, status: Status, words: &str) {
    let e = refusal(file, trust);
    assert_eq!((e.status, e.message.contains(words)), (status, true), "{words:?} in {}", e.message);
}

fn good(test: &str) -> Option<PathBuf> {
    library(&source("hostile.c"), &folder(test).join("good.so"), &[])
}

#[test]
fn a_good_one_loads_and_says_so() {
    let Some(file) = good("good") else { return };
    let (mut registry, log) = registry();
    assert_eq!(registry.load(&file, &OPEN).unwrap(), 1);
    let grid = registry.grid("levels", &config("{}")).unwrap();
    assert_eq!(grid.knots(2, 0.0, 4.0).unwrap(), [4.0, 2.0, 0.0]);
    assert!(grid.knots(0, 0.0, 4.0).is_err());
    assert_eq!(*log.lock().unwrap(), ["2 created"]);
    // again: the same plugin is known already; disabled, it may come back
    assert_eq!(registry.load(&file, &OPEN).unwrap_err().status, Status::State);
    registry.disable("org.test").unwrap();
    assert_eq!(registry.grid("levels", &config("{}")).err().unwrap().status, Status::NotFound);
    assert_eq!(grid.knots(1, 0.0, 4.0).unwrap(), [4.0, 0.0], "an instance outlives its name");
    assert_eq!(registry.load(&file, &OPEN).unwrap(), 2);
    // ids: nearest ones are named, other kinds are not looked at
    let e = registry.resolve(Kind::Grid, "level").err().unwrap();
    assert!(e.status == Status::NotFound && e.message.contains("org.test.levels"), "{e}");
    assert!(registry.resolve(Kind::Sampler, "levels").is_err());
    assert!(registry.grid("levels", &config("[1]")).is_err());
}

#[test]
fn files_that_are_no_plugins() {
    let dir = folder("no_plugins");
    let noise: Vec<u8> =
        (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut noisy_elf = b"\x7fELF\x02\x01\x01".to_vec();
    noisy_elf.extend(&noise);
    for (name, bytes) in [
        ("noise.so", noise.as_slice()),
        ("noisy_elf.so", &noisy_elf),
        ("empty.so", b""),
        ("text.so", b"#!/bin/sh\necho hello\n"),
    ] {
        let file = dir.join(name);
        fs::write(&file, bytes).unwrap();
        assert_eq!(refusal(&file, &OPEN).status, Status::Format, "{name}");
    }
    expect(&dir, &OPEN, Status::Format, "not a file");
    expect(&dir.join("missing.so"), &OPEN, Status::NotFound, "no such file");
    let libm = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    match libm.iter().map(Path::new).find(|p| p.exists()) {
        Some(file) => expect(file, &OPEN, Status::Format, "no symbol diffx_plugin_v0"),
        None => println!("skipped: no libm found"),
    }
}

/// A truncated library kills the process in `dlopen`; here it never gets there.
#[test]
fn truncated_files() {
    let Some(file) = good("truncated") else { return };
    let bytes = fs::read(&file).unwrap();
    let cut = folder("truncated").join("cut.so");
    for n in (0..bytes.len()).step_by(509).chain([63, 64, bytes.len() - 1]) {
        fs::write(&cut, &bytes[..n]).unwrap();
        assert_eq!(refusal(&cut, &OPEN).status, Status::Format, "{n} of {} bytes", bytes.len());
    }
}

#[test]
fn policy() {
    let Some(file) = good("policy") else { return };
    let dir = folder("policy");
    let closed = Trust { allowed: false, ..OPEN };
    expect(&file, &closed, Status::Denied, "without permission");
    expect(Path::new("good.so"), &OPEN, Status::Denied, "absolute");

    let zeros = "0".repeat(64);
    expect(&file, &Trust { sha256: Some(&zeros), ..OPEN }, Status::Denied, "SHA-256");
    expect(&file, &Trust { sha256: Some("abc"), ..OPEN }, Status::Invalid, "64 hexadecimal");
    let e = refusal(&file, &Trust { sha256: Some(&zeros), ..OPEN });
    let hash = e.message.split_whitespace().find(|w| w.trim_end_matches(',').len() == 64).unwrap();
    let right = hash.trim_end_matches(',').to_uppercase();
    registry().0.load(&file, &Trust { sha256: Some(&right), ..OPEN }).unwrap();

    let open = dir.join("open.so");
    fs::copy(&file, &open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o666)).unwrap();
    expect(&open, &OPEN, Status::Denied, "everybody may write to it");
    let folder = dir.join("open");
    fs::create_dir_all(&folder).unwrap();
    let inside = folder.join("good.so");
    fs::copy(&file, &inside).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    expect(&inside, &OPEN, Status::Denied, "its folder");
    let link = dir.join("link.so");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    expect(&link, &OPEN, Status::Denied, "its folder");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    registry().0.load(&link, &OPEN).unwrap();
}

/// One spoilt field each.
#[test]
fn spoilt_descriptors() {
    use Status::{Format, Version};
    let cases: &[(&[&str], Status, &str)] = &[
        (&["-DTINY"], Format, "descriptor has 8 bytes"),
        (&["-DMAGIC=0x12345678"], Format, "magic"),
        (&["-DMAJOR=7"], Version, "built for plugin ABI 7."),
        (&["-DMINOR=0"], Version, "never released"),
        (&["-DREQUIRED=3"], Version, "needs plugin ABI 0.3"),
        (&["-DLAYOUT=1"], Version, "layout 0x00000001"),
        (&["-DSIZE=8"], Format, "says it has 8 bytes"),
        (&["-DSIZE=5000"], Format, "says it has 5000 bytes"),
        (&["-DCOUNT=257"], Format, "257 factories"),
        (&["-DCOUNT=100"], Format, "factor"),
        (&["-DFACTORIES=NULL"], Format, "table of factories"),
        (&["-DID=\"noreverse\""], Format, "reverse-DNS"),
        (&["-DID=\"Org.Test\""], Format, "reverse-DNS"),
        (&["-DID=\"org..test\""], Format, "reverse-DNS"),
        (&["-DFACTORY_ID=NULL"], Format, "has no id"),
        (&["-DFACTORY_ID=\"\""], Format, "reverse-DNS"),
        (&["-DFACTORY_SIZE=12"], Format, "struct_size is 12"),
        (&["-DAPI=NULL"], Format, "no table"),
        (&["-DAPI=(const void*)0x1000"], Format, "no table"),
        (&["-DCREATE=NULL"], Format, "no create"),
        (&["-DKNOTS=NULL"], Format, "no function knots"),
    ];
    for (i, (flags, status, words)) in cases.iter().enumerate() {
        let out = folder("spoilt").join(format!("spoilt{i}.so"));
        let Some(file) = library(&source("hostile.c"), &out, flags) else { return };
        expect(&file, &OPEN, *status, words);
    }
    // a future minor that asks for nothing new is welcome, and so is a larger descriptor
    for (i, flags) in
        [&["-DMINOR=9", "-DLAYOUT=1"][..], &["-DUNKNOWN_KIND", "-DCOUNT=2"]].iter().enumerate()
    {
        let out = folder("spoilt").join(format!("newer{i}.so"));
        let Some(file) = library(&source("hostile.c"), &out, flags) else { return };
        let (mut registry, log) = registry();
        registry.load(&file, &OPEN).unwrap();
        assert_eq!(registry.factories().count(), 1);
        assert_eq!(log.lock().unwrap().iter().any(|l| l.contains("kind 99")), i == 1);
    }
}

/// Every bit of the first 24 bytes of the descriptor, flipped in the file: refused or loaded, never a crash.
#[test]
fn flipped_bits_of_the_descriptor() {
    let Some(file) = good("flipped") else { return };
    let mut bytes = fs::read(&file).unwrap();
    let head: Vec<u8> = [abi::MAGIC.to_le_bytes(), [0, 0, abi::ABI_MINOR as u8, 0]].concat();
    let at = bytes.windows(8).position(|w| w == head).expect("the descriptor is in the file");
    let flipped = folder("flipped").join("flipped.so");
    let mut tally = std::collections::BTreeMap::<String, usize>::new();
    for bit in 0..24 * 8 {
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        fs::write(&flipped, &bytes).unwrap();
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        let outcome = registry().0.load(&flipped, &OPEN);
        let word = outcome.as_ref().map_or_else(|e| format!("{:?}", e.status), |_| "ok".into());
        *tally.entry(word).or_default() += 1;
        let must_fail = matches!(bit / 8, 0..=5 | 16..=19); // magic, major, layout
        assert!(outcome.is_err() || !must_fail, "bit {bit}");
    }
    println!("192 flips: {tally:?}");
}

/// A host that closes descriptors that are not its own makes names of loaded files come back; they are not reused.
#[test]
fn two_files_are_two_libraries() {
    let Some(a) = good("two") else { return };
    let out = folder("two").join("other.so");
    let other = ["-DID=\"org.other\"", "-DFACTORY_ID=\"org.other.levels\""];
    let Some(b) = library(&source("hostile.c"), &out, &other) else { return };
    let (mut registry, _) = registry();
    registry.load(&a, &OPEN).unwrap();
    registry.load(&b, &OPEN).unwrap();
    assert_eq!(registry.plugin_id(1), Some("org.test"));
    assert_eq!(registry.plugin_id(2), Some("org.other"));
    let e = registry.resolve(Kind::Grid, "levels").err().unwrap();
    assert!(e.status == Status::Invalid && e.message.contains("org.other.levels"), "{e}");
}
