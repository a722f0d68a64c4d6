//! Compiled code, kept between two runs of the program.
//!
//! Deserialising compiled code runs whatever it says, so a file is used only when its tag proves that this program wrote it: the tag is
//! keyed with a secret that lives in the folder, which nobody but the owner can read. A torn, foreign or altered file fails that test and
//! the component is compiled again.

use std::fs::{self, DirBuilder, File, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Error;
use crate::model::Digest;

/// Bytes of the secret and of a tag.
const KEY_BYTES: usize = 32;
/// Files kept; the oldest go first.
const FILES_MAX: usize = 256;
/// The largest file that is read back. CPython's compiled component has 33 MB.
const FILE_BYTES_MAX: u64 = 1 << 30;

pub(super) struct Cache {
    folder: PathBuf,
    secret: [u8; KEY_BYTES],
    /// Changes with the engine's version, its settings and the processor.
    compatibility: u64,
}

impl Cache {
    pub(super) fn open(folder: &Path, engine: &wasmtime::Engine) -> Result<Cache, Error> {
        let refuse = |error: io::Error| Error::Engine(format!("cannot use the folder {} for compiled code: {error}", folder.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refuse)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(refuse)?;
        let secret = secret(folder).map_err(refuse)?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache { folder: folder.to_owned(), secret, compatibility: hasher.finish() })
    }

    /// The compiled code of this component, if this program wrote it and nobody changed it since.
    pub(super) fn get(&self, digest: Digest) -> Option<Vec<u8>> {
        let file = File::open(self.path(digest)).ok()?;
        let length = file.metadata().ok()?.len().min(FILE_BYTES_MAX);
        let mut stored = Vec::with_capacity(length as usize);
        file.take(FILE_BYTES_MAX).read_to_end(&mut stored).ok()?;
        let code = split_off(&mut stored, KEY_BYTES)?;
        if stored.as_slice() == self.tag(digest, &code).as_slice() {
            return Some(code);
        }
        tracing::warn!(%digest, "compiled code in the cache is damaged or was not written by this program; compiling again");
        None
    }

    /// Keeps compiled code. Written aside and renamed, so that a reader sees all of it or none.
    pub(super) fn put(&self, digest: Digest, code: &[u8]) -> io::Result<()> {
        self.make_room()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&self.tag(digest, code))?;
        file.write_all(code)?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.code", self.compatibility))
    }

    /// Hashed twice, so that nothing can be appended to a file of which the tag is known.
    fn tag(&self, digest: Digest, code: &[u8]) -> [u8; KEY_BYTES] {
        let inner = Sha256::new()
            .chain_update(self.secret)
            .chain_update(digest.0)
            .chain_update(self.compatibility.to_le_bytes())
            .chain_update(code);
        Sha256::new().chain_update(self.secret).chain_update(inner.finalize()).finalize().into()
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "code") {
                let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(std::time::UNIX_EPOCH);
                files.push((written, path));
            }
        }
        files.sort();
        let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
        for (_, path) in files.iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The folder's secret; made when there is none, or when what is there cannot be one.
fn secret(folder: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = folder.join("secret");
    if let Some(secret) = fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(secret);
    }
    let mut secret = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    // Temporary files are readable by their owner alone.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&secret)?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(secret)
}

fn split_off(bytes: &mut Vec<u8>, at: usize) -> Option<Vec<u8>> {
    (bytes.len() >= at).then(|| bytes.split_off(at))
}
