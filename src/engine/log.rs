//! The metrics file of a training: one JSON line now and then, each step at most once. A training that goes on from a
//! checkpoint first drops the lines behind it, so that the file reads as if the run had never been stopped.

use crate::base::Result;
use crate::train::Report;
use crate::{bail, fail};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Longest line that is looked at.
const MOST_LINE: u64 = 1 << 20;

/// Where metrics go and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub path: PathBuf,
    /// Steps from one line to the next; the last step has one too.
    pub every: u32,
    /// Steps from one held-out measurement to the next.
    pub measure_every: u32,
}

/// What is written besides the report of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) names: &'a [String],
    pub(super) rate: f64,
    pub(super) batch: usize,
    pub(super) held_out: Option<f64>,
}

/// The losses since the last line: a checkpoint carries them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    sum: f64,
    count: u32,
}

impl Sums {
    /// What a checkpoint carries; one that was made without a metrics file carries nothing.
    pub(super) fn parse(text: Option<&String>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self::default()) };
        let parts = text.split_once(' ').and_then(|(sum, count)| {
            Some((u64::from_str_radix(sum, 16).ok()?, count.parse().ok()?))
        });
        match parts {
            Some((sum, count)) => Ok(Self { sum: f64::from_bits(sum), count }),
            None => bail!(Format, "the metrics of the checkpoint are {text:?}, want sum and count"),
        }
    }
}

pub(super) struct Log {
    metrics: Metrics,
    file: Option<File>,
    sums: Sums,
    /// When the last line was written here, and its step.
    since: (Instant, u32),
}

impl Log {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, file: None, sums: Sums::default(), since: (Instant::now(), 0) }
    }

    /// Whether step `t` of `total` gets a line, and whether with a measurement.
    pub(super) fn due(&self, t: u32, total: u32) -> (bool, bool) {
        let last = t == total;
        let measure = last || t.is_multiple_of(self.metrics.measure_every);
        (measure || t.is_multiple_of(self.metrics.every), measure)
    }

    /// Before the step after `done`: opens the file and drops what lies behind that step.
    pub(super) fn begin(&mut self, done: u32) -> Result<()> {
        if self.file.is_none() {
            let path = &self.metrics.path;
            self.file = Some(opened(path, done).map_err(|e| e.within(path.display()))?);
            self.since = (Instant::now(), done);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, loss: f64) {
        self.sums.sum += loss;
        self.sums.count += 1;
    }

    pub(super) fn write(&mut self, report: &Report, around: Around<'_>) -> Result<()> {
        let (then, from) = self.since;
        let seconds = then.elapsed().as_secs_f64().max(1e-9);
        let samples = f64::from(report.step.saturating_sub(from)) * around.batch as f64;
        let mut line = format!("{{\"step\":{}", report.step);
        let mut put = |name: &str, v: f64| {
            // JSON has no NaN
            line.push_str(&format!(",{}:{}", Value::from(name), Value::from(v)));
        };
        put("loss", self.sums.sum / f64::from(self.sums.count.max(1)));
        if let Some(held) = around.held_out {
            put("held_out_loss", held);
        }
        put("rate", around.rate);
        put("norm", report.norm);
        for (name, v) in around.names.iter().zip(&report.metrics).filter(|(n, _)| *n != "loss") {
            put(name, *v);
        }
        put("samples_per_second", (samples / seconds * 10.0).round() / 10.0);
        line.push_str("}\n");
        self.sums = Sums::default();
        self.since = (Instant::now(), report.step);
        let path = &self.metrics.path;
        match &mut self.file {
            Some(file) => {
                // one call, so that a reader, or a killed run, meets whole lines
                file.write_all(line.as_bytes()).map_err(|e| fail!(Io, "{}: {e}", path.display()))
            }
            None => bail!(Internal, "{}: written before it was opened", path.display()),
        }
    }

    /// On the disk before a checkpoint that counts on it.
    pub(super) fn sync(&self) -> Result<()> {
        match &self.file {
            Some(file) => {
                file.sync_data().map_err(|e| fail!(Io, "{}: {e}", self.metrics.path.display()))
            }
            None => Ok(()),
        }
    }

    /// What a checkpoint carries.
    pub(super) fn state(&self) -> String {
        format!("{:016x} {}", self.sums.sum.to_bits(), self.sums.count)
    }

    /// Goes on from the state of a checkpoint.
    pub(super) fn resume(&mut self, sums: Sums) {
        self.file = None;
        self.sums = sums;
    }
}

/// The file, cut behind the lines of the steps up to `done`, to write at its end.
fn opened(path: &Path, done: u32) -> Result<File> {
    let io = |e: std::io::Error| fail!(Io, "{e}");
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK); // a pipe returns at once
    }
    let file = options.create(true).open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        bail!(Invalid, "not a plain file");
    }
    let mut keep = 0u64;
    let mut before = 0;
    let mut reader = BufReader::new(&file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = (&mut reader).take(MOST_LINE).read_until(b'\n', &mut line).map_err(io)? as u64;
        let whole = line.last() == Some(&b'\n');
        let step = serde_json::from_slice::<Value>(&line).ok();
        let step = step.as_ref().and_then(|v| v.get("step")).and_then(Value::as_u64);
        if n == 0 {
            break;
        }
        // somebody else's file is not emptied
        if keep == 0 && step.is_none() && !line.starts_with(b"{\"step\":") {
            bail!(
                Invalid,
                "its first line is none of a metrics file; move it away or name another"
            );
        }
        match step {
            Some(step) if whole && step > before && step <= u64::from(done) => before = step,
            _ => break,
        }
        keep += n;
    }
    file.set_len(keep).map_err(io)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &Path) -> Log {
        Log::new(Metrics { path: path.to_owned(), every: 2, measure_every: 4 })
    }

    fn go(log: &mut Log, steps: std::ops::RangeInclusive<u32>) {
        for step in steps {
            log.begin(step - 1).unwrap();
            log.add(f64::from(step));
            if log.due(step, 100).0 {
                let report = Report { step, loss: 0.0, norm: f64::NAN, metrics: vec![0.0, 0.5] };
                let names = ["loss".to_owned(), "mse".to_owned()];
                let around = Around { names: &names, rate: 0.1, batch: 4, held_out: None };
                log.write(&report, around).unwrap();
            }
        }
    }

    fn lines(path: &Path) -> Vec<(u64, f64)> {
        let text = std::fs::read_to_string(path).unwrap();
        let row = |l: &str| {
            let v: Value = serde_json::from_str(l).unwrap();
            assert!(v["norm"].is_null() && v["mse"] == 0.5 && v["rate"] == 0.1);
            (v["step"].as_u64().unwrap(), v["loss"].as_f64().unwrap())
        };
        text.lines().map(row).collect()
    }

    #[test]
    fn a_resumed_file_has_every_line_once() {
        let path = std::env::temp_dir().join(format!("diffx-log-{}.jsonl", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut first = log(&path);
        go(&mut first, 1..=5);
        let state = first.state(); // a checkpoint after step 5
        go(&mut first, 6..=9);
        drop(first);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"step\":10,\"lo").unwrap(); // killed there
        let mut second = log(&path);
        second.resume(Sums::parse(Some(&state)).unwrap());
        go(&mut second, 6..=8);
        assert_eq!(lines(&path), [(2, 1.5), (4, 3.5), (6, 5.5), (8, 7.5)]);
        let mut fresh = log(&path);
        go(&mut fresh, 1..=2);
        assert_eq!(lines(&path), [(2, 1.5)]);
        std::fs::write(&path, "dear diary\n").unwrap();
        let e = log(&path).begin(0).unwrap_err();
        assert!(e.message.contains("its first line is none of a metrics file"), "{e}");
        assert_eq!(std::fs::read(&path).unwrap(), b"dear diary\n");
        std::fs::remove_file(&path).unwrap();
    }
}
