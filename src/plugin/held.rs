//! The file of a plugin, held open and looked at again around loading, for systems without sealed memory files. A
//! change between the check and the use is found, the last moment before `dlopen` excepted: there it is found only after
//! the constructors ran, and the plugin is refused.

use crate::base::Result;
use crate::{bail, fail};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file the linker can open by name. A library that the process mapped under this name before is taken again: its
/// code runs already.
pub(super) struct Image {
    file: File,
    name: PathBuf,
    bytes: Vec<u8>,
}

impl Image {
    pub(super) fn new(file: File, path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut image = Self { file, name: path.to_owned(), bytes: bytes.to_vec() };
        image.unchanged()?;
        Ok(image)
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// To be called once it is mapped: it was still the same.
    pub(super) fn mapped(mut self) -> Result<()> {
        self.unchanged()
    }

    /// The name still means the file that is held, and that has the bytes that were looked at.
    fn unchanged(&mut self) -> Result<()> {
        let io = |e: std::io::Error| fail!(Io, "cannot be read again: {e}");
        let (held, named) = (self.file.metadata().map_err(io)?, self.name.metadata().map_err(io)?);
        if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
            bail!(Denied, "was replaced by another file while it was loaded");
        }
        let mut now = Vec::new();
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        let most = self.bytes.len() as u64 + 1;
        (&mut self.file).take(most).read_to_end(&mut now).map_err(io)?;
        if now != self.bytes {
            bail!(Denied, "was written to while it was loaded");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Status;
    use std::fs;

    /// What loading says after `change`.
    fn after(change: impl FnOnce(&Path)) -> Result<()> {
        let dir = std::env::temp_dir().join(format!("diffx-held-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("plugin.so");
        fs::write(&path, b"checked").unwrap();
        let image = Image::new(File::open(&path).unwrap(), &path, b"checked").unwrap();
        assert_eq!(image.name(), path);
        change(&path);
        let outcome = image.mapped();
        fs::remove_dir_all(dir).unwrap();
        outcome
    }

    #[test]
    fn every_change_is_seen() {
        after(|_| {}).unwrap();
        let cases: [(&dyn Fn(&Path), _, _); 4] = [
            (&|path| fs::write(path, b"swapped").unwrap(), Status::Denied, "written to"),
            (&|path| fs::write(path, b"checked and more").unwrap(), Status::Denied, "written to"),
            (&|path| fs::remove_file(path).unwrap(), Status::Io, "read again"),
            (
                &|path| {
                    let other = path.with_extension("other");
                    fs::write(&other, b"checked").unwrap();
                    fs::rename(other, path).unwrap();
                },
                Status::Denied,
                "replaced",
            ),
        ];
        for (change, status, words) in cases {
            let e = after(change).unwrap_err();
            assert!(e.status == status && e.message.contains(words), "{e}");
        }
    }
}
