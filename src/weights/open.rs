//! Opening a file somebody named: it must be a plain file. A pipe or a device would block or never end.

use crate::base::Result;
use crate::{bail, fail};
use std::fs::File;
use std::path::Path;

/// Opens a plain file for reading and tells its length. Never blocks, whatever stands at `path`.
pub fn plain_file(path: &Path) -> Result<(File, u64)> {
    let label = path.display();
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK); // a pipe without a writer returns at once
    }
    let file = options.open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => fail!(NotFound, "{label}: no such file"),
        _ => fail!(Io, "{label}: {e}"),
    })?;
    let meta = file.metadata().map_err(|e| fail!(Io, "{label}: {e}"))?;
    if !meta.is_file() {
        bail!(Invalid, "{label}: not a plain file");
    }
    Ok((file, meta.len()))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::base::Status;
    use std::process::Command;

    #[test]
    fn devices_folders_and_pipes_are_refused_at_once() {
        let pipe = std::env::temp_dir().join(format!("diffx-open-{}", std::process::id()));
        assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|s| s.success()));
        for path in [Path::new("/dev/zero"), Path::new("/"), &pipe] {
            let error = plain_file(path).unwrap_err();
            assert!(error.message.ends_with("not a plain file"), "{}", error.message);
        }
        std::fs::remove_file(&pipe).unwrap();
        assert_eq!(plain_file(&pipe).unwrap_err().status, Status::NotFound);
    }
}
