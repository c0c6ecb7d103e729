//! The game: it samples in its frame loop, and what it shows is looked at. Frame times are printed, not judged: they are
//! the machine's as much as ours.

use crate::host::{library, root, succeed, temporary, works};
use serde_json::Value;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

/// A screenshot.
struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<[u8; 3]>,
}

impl Picture {
    fn read(path: &Path) -> Self {
        let mut reader =
            png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let size = info.color_type.samples();
        let rgb = bytes[..info.buffer_size()].chunks_exact(size).map(|p| [p[0], p[1], p[2]]);
        Self { width: info.width as usize, height: info.height as usize, rgb: rgb.collect() }
    }

    /// How many pixels in these shares of width and height pass.
    fn count(&self, x: [f64; 2], y: [f64; 2], pass: impl Fn([i32; 3]) -> bool) -> usize {
        let cut = |share: f64, of: usize| (share * of as f64) as usize;
        let rows = cut(y[0], self.height)..cut(y[1], self.height);
        let columns = cut(x[0], self.width)..cut(x[1], self.width);
        rows.flat_map(|row| columns.clone().map(move |column| row * self.width + column))
            .filter(|at| pass(self.rgb[*at].map(i32::from)))
            .count()
    }
}

fn gold([r, g, b]: [i32; 3]) -> bool {
    r > 200 && g > 150 && b < 150
}

fn blue([r, g, b]: [i32; 3]) -> bool {
    b > 75 && b > g + 15 && g > r + 10
}

fn red([r, g, b]: [i32; 3]) -> bool {
    r > 90 && r > g + 40 && r > b + 20
}

fn dark([r, g, b]: [i32; 3]) -> bool {
    r < 30 && g < 35 && b < 45
}

#[test]
fn love_samples_in_its_frame_loop() {
    let Some(library) = library() else { return };
    for (program, word) in [("love", "--version"), ("xvfb-run", "--help")] {
        if !works(program, &[word]) {
            println!("skipped: {program} is not installed");
            return;
        }
    }
    let folder = temporary("love");
    std::fs::create_dir_all(&folder).unwrap();
    succeed(
        Command::new("xvfb-run")
            .args(["-a", "-s", "-screen 0 1280x800x24", "love"])
            .arg(root().join("examples/love"))
            .env("DIFFX_LIBRARY", &library)
            .env("DIFFX_LOVE_REPORT", &folder)
            .env("LIBGL_ALWAYS_SOFTWARE", "1"),
    );
    let report = std::fs::read_to_string(folder.join("report.json")).unwrap();
    let figures: Value = serde_json::from_str(&report).unwrap();
    for part in ["idle", "sampling", "pump", "idle_worked", "sampling_worked", "pump_worked"] {
        let f = &figures[part];
        println!(
            "{part:>15}: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms of {} frames",
            f["p50_ms"].as_f64().unwrap(),
            f["p99_ms"].as_f64().unwrap(),
            f["worst_ms"].as_f64().unwrap(),
            f["frames"]
        );
        assert_eq!(f["frames"], 600);
    }
    println!("{} scenarios, {} previews", figures["scenarios"], figures["previews"]);
    assert!(figures["scenarios"].as_u64() >= Some(32) && figures["previews"].as_u64() >= Some(16));

    let picture = Picture::read(&folder.join("screenshot.png"));
    assert_eq!((picture.width, picture.height), (1080, 640));
    let (past, future, plot) = ([0.06, 0.5], [0.52, 0.96], [0.15, 0.77]);
    let seen = [
        ("the past, left", picture.count(past, plot, gold), 300..20_000),
        ("no fan there", picture.count(past, plot, blue), 0..300),
        ("no past, right", picture.count(future, plot, gold), 0..200),
        ("the fan, right", picture.count(future, plot, blue), 15_000..180_000),
        ("scenarios being made, right", picture.count(future, plot, red), 100..180_000),
        ("ground", picture.count([0.0, 1.0], [0.0, 1.0], dark), 300_000..690_000),
    ];
    println!("{seen:?}");
    for (what, pixels, range) in seen {
        assert!(range.contains(&pixels), "{what}: {pixels} pixels, want {range:?}");
    }
    let _ = std::fs::remove_dir_all(folder);
}
