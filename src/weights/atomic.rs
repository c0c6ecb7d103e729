//! Replacing a file so that no crash, full disk or reader ever meets half of it: write beside it, sync, rename, sync
//! the directory. Everything that may fail is done before the rename, so an error means that the old file is untouched.
//! A link is followed: what it leads to is replaced. The new file has the mode of the old one, and at no moment a wider.
//! A program that was killed leaves the file it wrote beside; the next to write there removes it. Who writes such a file
//! holds a lock on it, which ends with the program, on whatever machine that ran: its number would say nothing.

use super::plain_file;
use crate::base::Result;
use crate::{bail, fail};
use std::fs::{File, OpenOptions, TryLockError};
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
    remove_abandoned(&directory.path);
    let (beside, file) = create_in(&directory.path, old.is_some()).map_err(io)?;
    let done = (|| {
        if let Some(mode) = old {
            file.set_permissions(mode).map_err(io)?;
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

/// Name of a file that is being written, around the number of the program and a serial number.
const BEFORE: &str = ".diffx-";
const BEHIND: &str = ".tmp";

/// A new file in the same directory, locked: a rename across file systems would not be atomic. Its name is short, for
/// the file's own may be as long as names can be. What will be as open as another file is opened to nobody until then.
fn create_in(directory: &Path, closed: bool) -> std::io::Result<(PathBuf, File)> {
    static SERIAL: AtomicU64 = AtomicU64::new(0); // names only; no result depends on it
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if closed {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = closed;
    loop {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("{BEFORE}{}-{serial}{BEHIND}", std::process::id());
        let beside = directory.join(name);
        match options.open(&beside) {
            // between the two somebody may take it for abandoned, hold it, and remove it
            Ok(file) => match file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                // where there are no locks nobody removes it either
                Ok(()) | Err(TryLockError::Error(_)) if beside.exists() => {
                    return Ok((beside, file));
                }
                Ok(()) | Err(TryLockError::Error(_)) => {}
            },
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Removes what programs that were killed have left in a directory. What cannot be looked at stays.
fn remove_abandoned(directory: &Path) {
    let Ok(files) = std::fs::read_dir(directory) else { return };
    for path in files.filter_map(|f| f.ok()).filter(is_beside).map(|f| f.path()) {
        let Ok((file, _)) = plain_file(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Whether it has the name of a file that is being written, and is no link to another.
fn is_beside(file: &std::fs::DirEntry) -> bool {
    let name = file.file_name();
    let inner = name.to_str().and_then(|n| n.strip_prefix(BEFORE)?.strip_suffix(BEHIND));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    inner.and_then(|n| n.split_once('-')).is_some_and(|(a, b)| digits(a) && digits(b))
        && file.file_type().is_ok_and(|t| t.is_file())
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

    /// The file being written is seen by nobody who may not see the one it replaces, also before its mode is set.
    #[test]
    fn what_replaces_a_private_file_is_private_from_its_first_moment() {
        let home = std::env::temp_dir().join(format!("diffx-private-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mode = |file: &File| file.metadata().unwrap().mode() & 0o777;
        let (path, file) = create_in(&home, true).unwrap();
        assert_eq!(mode(&file), 0o600);
        let (other, usual) = create_in(&home, false).unwrap();
        let plain = home.join("plain");
        assert_eq!(mode(&usual), mode(&File::create(&plain).unwrap()), "that of any new file");
        drop((file, usual));
        [path, other, plain].iter().for_each(|p| std::fs::remove_file(p).unwrap());
        std::fs::remove_dir(&home).unwrap();
    }

    #[test]
    fn what_a_killed_program_left_goes_and_what_another_writes_stays() {
        let home = std::env::temp_dir().join(format!("diffx-left-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let put = |name: &str| std::fs::write(home.join(name), "left").unwrap();
        // no such names of ours: too little, too much, no numbers
        let others =
            [".diffx-7.tmp", ".diffx-a-1.tmp", ".diffx-7-1", "diffx-7-1.tmp", ".diffx--.tmp"];
        others.iter().for_each(|name| put(name));
        symlink("diffx-7-1.tmp", home.join(".diffx-7-2.tmp")).unwrap();
        put(".diffx-1-0.tmp"); // of a program whose number has another by now
        put(".diffx-4294967295-3.tmp");
        let (writing, file) = create_in(&home, false).unwrap();
        replace(&home.join("new"), |out| out.write_all(b"new")).unwrap();
        let is_there = |name: &str| home.join(name).symlink_metadata().is_ok();
        assert!(!is_there(".diffx-1-0.tmp") && !is_there(".diffx-4294967295-3.tmp"));
        assert!(others.iter().all(|name| is_there(name)) && is_there(".diffx-7-2.tmp"));
        assert!(writing.exists(), "a file that is being written");
        drop(file); // as the end of its program would
        replace(&home.join("new"), |out| out.write_all(b"newer")).unwrap();
        assert!(!writing.exists());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
