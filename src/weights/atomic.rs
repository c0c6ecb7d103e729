//! Replacing a file so that no crash, full disk or reader ever meets half of it: write beside it, sync, rename, sync
//! the directory.

use crate::base::Result;
use crate::fail;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Puts what `fill` writes in the place of `path`. On failure the old file, if any, is untouched and nothing is left.
pub fn replace(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let label = path.display();
    if path.file_name().is_none() {
        return Err(fail!(Invalid, "{label}: not the name of a file"));
    }
    let (beside, file) = create_beside(path).map_err(|e| fail!(Io, "{label}: {e}"))?;
    let done = (|| {
        let mut out = BufWriter::new(&file);
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        sync_directory(path)
    })();
    done.map_err(|e| {
        let _ = std::fs::remove_file(&beside); // gone already when the rename went through
        fail!(Io, "{label}: {e}")
    })
}

/// A new file in the same directory: a rename across file systems would not be atomic.
fn create_beside(path: &Path) -> std::io::Result<(PathBuf, File)> {
    static SERIAL: AtomicU64 = AtomicU64::new(0); // names only; no result depends on it
    loop {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}-{serial}.tmp", std::process::id()));
        let beside = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> std::io::Result<()> {
    Ok(()) // a directory cannot be opened as a file there; the rename itself is journalled
}
