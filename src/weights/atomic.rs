//! Replacing a file so that no crash, full disk or reader ever meets half of it: write beside it, sync, rename, sync
//! the directory. Everything that may fail is done before the rename, so an error means that the old file is untouched.
//! A link is followed: what it leads to is replaced. The new file has the mode of the old one.

use crate::base::Result;
use crate::{bail, fail};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Puts what `fill` writes in the place of `path`. On failure the old file, if any, is untouched and nothing is left.
pub fn replace(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    replace_with(path, |out| fill(out).map_err(|e| fail!(Io, "{e}")))
}

/// As [`replace`], where filling may fail by itself.
pub fn replace_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let label = path.display();
    if path.file_name().is_none() {
        bail!(Invalid, "{label}: not the name of a file");
    }
    let io = |e: Error| fail!(Io, "{label}: {e}");
    let path = &followed(path).map_err(io)?;
    let old = match std::fs::metadata(path) {
        Ok(old) if !old.is_file() => bail!(Invalid, "{label}: not a plain file"),
        Ok(old) => Some(old.permissions()),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(io(e)),
    };
    let directory = Directory::of(path).map_err(io)?;
    let (beside, file) = create_in(&directory.path).map_err(io)?;
    let done = (|| {
        if let Some(mode) = old {
            file.set_permissions(mode).map_err(io)?; // before there is anything to read
        }
        let mut out = BufWriter::new(&file);
        fill(&mut out).map_err(|e| e.within(&label))?;
        out.flush().map_err(io)?;
        drop(out);
        file.sync_all().map_err(io)?;
        directory.sync().map_err(io)?; // whether it can be, while the old file is there
        std::fs::rename(&beside, path).map_err(io)
    })();
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
        return done;
    }
    // the new file is in place, whole and on the disk; should this sync fail after the one above, then a crash may bring
    // the old one back, which is no reason to say that it still stands
    let _ = directory.sync();
    Ok(())
}

/// Where a link leads.
fn followed(path: &Path) -> std::io::Result<PathBuf> {
    match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_symlink() => path.canonicalize(),
        _ => Ok(path.to_owned()),
    }
}

/// A new file in the same directory: a rename across file systems would not be atomic. Its name is short, for the
/// file's own may be as long as names can be.
fn create_in(directory: &Path) -> std::io::Result<(PathBuf, File)> {
    static SERIAL: AtomicU64 = AtomicU64::new(0); // names only; no result depends on it
    loop {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let beside = directory.join(format!(".diffx-{}-{serial}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// The directory of a file, open before anything in it changes.
struct Directory {
    path: PathBuf,
    #[cfg(unix)]
    file: File,
}

impl Directory {
    fn of(path: &Path) -> std::io::Result<Self> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let path = parent.unwrap_or(Path::new(".")).to_owned();
        #[cfg(unix)]
        return Ok(Self { file: File::open(&path)?, path });
        #[cfg(not(unix))]
        Ok(Self { path })
    }

    #[cfg(unix)]
    fn sync(&self) -> std::io::Result<()> {
        match self.file.sync_all() {
            // some file systems (FUSE, 9p) have no sync of a directory: there is nothing more to ask of them
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP)) => Ok(()),
            other => other,
        }
    }

    #[cfg(not(unix))]
    fn sync(&self) -> std::io::Result<()> {
        Ok(()) // a directory cannot be opened as a file there; the rename itself is journalled
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn mode_link_and_long_names_are_kept() {
        let home = std::env::temp_dir().join(format!("diffx-atomic-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let put = |path: &Path, text: &str| replace(path, |out| out.write_all(text.as_bytes()));
        let file = home.join("n".repeat(255)); // as long as a name can be
        put(&file, "one").unwrap();
        let mode = std::fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o600, 0o600, "a new file has the mode of any new file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let link = home.join("link");
        symlink(&file, &link).unwrap();
        put(&link, "two").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let error = replace_with(&file, |out| {
            out.write_all(b"three").unwrap();
            bail!(NoMemory, "no more")
        });
        let error = error.unwrap_err();
        assert_eq!(error.status, crate::base::Status::NoMemory);
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        symlink(home.join("nothing"), home.join("dangling")).unwrap();
        for path in ["dangling", "", "no/such/directory"].map(|n| home.join(n)) {
            assert!(put(&path, "four").is_err(), "{}", path.display());
        }
        let left: Vec<_> = std::fs::read_dir(&home).unwrap().collect();
        assert_eq!(left.len(), 3, "{left:?}");
        std::fs::remove_dir_all(&home).unwrap();
    }
}
