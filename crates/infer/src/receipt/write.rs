//! Writing a log: lines are buffered and written together, then the manifest beside the log is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::read::{Fault, Verification, verify};
use super::{Digest, Input, Receipt};
use crate::error::Error;
use crate::files;

/// What a log's manifest vouches for. It lies beside the log as `<log>.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Records in the log.
    pub records: usize,
    /// Hash of the first record, if there is one.
    pub first: Option<Digest>,
    /// Hash of the last record; of an empty log, the hash every chain starts from.
    pub head: Digest,
}

impl Manifest {
    /// Where the manifest of `log` lies.
    pub fn path_of(log: &Path) -> PathBuf {
        files::with_suffix(log, ".manifest.json")
    }
}

/// The hash every chain starts from; it names the format, so another version cannot be taken for this one.
pub(super) fn genesis() -> Digest {
    Digest::of_bytes(b"acclimate receipt log, version 1")
}

/// The folder beside `log` where inputs are kept unless told otherwise: `<log>.inputs`.
pub(super) fn inputs_beside(log: &Path) -> PathBuf {
    files::with_suffix(log, ".inputs")
}

/// Appends receipts to a log.
///
/// Nothing is on disk before [`Writer::flush`]; dropping the writer flushes, but can only log an error.
/// A log has one writer at a time: a second one is noticed by the length of the file.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    /// Bytes of the file that this writer knows to be good.
    length: u64,
    buffer: Vec<u8>,
    manifest: Manifest,
    inputs: Option<PathBuf>,
}

impl Writer {
    /// Starts a log at `path`, replacing one that is there. Folders above are created.
    ///
    /// # Errors
    /// [`Error::Io`] if the log or its manifest cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        files::create_parent(&path)?;
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        let manifest = Manifest { records: 0, first: None, head: genesis() };
        let writer = Self { path, file, length: 0, buffer: Vec::new(), manifest, inputs: None };
        writer.write_manifest()?;
        Ok(writer)
    }

    /// Continues the log at `path` after checking all of it, or starts one if there is none.
    ///
    /// # Errors
    /// [`Error::CannotAppend`] if anything in the log does not hold, with what to do; [`Error::Io`] if it cannot be
    /// read or written.
    pub fn append(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        if !exists(&path)? {
            return Self::create(path);
        }
        let found = verify(&path)?;
        match found.faults.first() {
            None => Self::open(path, &found),
            Some(fault) => {
                let advice = if found.faults.iter().all(is_torn_write) {
                    "a write was cut off: open it with Writer::recover, which drops the partial line"
                } else {
                    "keep the log as evidence and start a new one"
                };
                Err(Error::CannotAppend { path, what: fault.to_string(), advice })
            }
        }
    }

    /// Continues a log whose last write was cut off (a crash, a full disk): drops a partial last line and renews the
    /// manifest. Whole records stay. Also tells what was found.
    ///
    /// # Errors
    /// [`Error::CannotAppend`] if the log shows more than a write cut off: a changed record, or records missing that
    /// the manifest vouches for.
    pub fn recover(path: impl Into<PathBuf>) -> Result<(Self, Verification), Error> {
        let path = path.into();
        let found = verify(&path)?;
        if let Some(fault) = found.faults.iter().find(|fault| !is_torn_write(fault)) {
            let advice = "this is not a write that was cut off; keep the log as evidence and start a new one";
            return Err(Error::CannotAppend { path, what: fault.to_string(), advice });
        }
        let writer = Self::open(path, &found)?;
        writer.file.set_len(writer.length).map_err(Error::io(&writer.path, "cut"))?;
        writer.write_manifest()?;
        Ok((writer, found))
    }

    fn open(path: PathBuf, found: &Verification) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).open(&path).map_err(Error::io(&path, "open"))?;
        let manifest = Manifest { records: found.records, first: found.first, head: found.head };
        Ok(Self { path, file, length: found.whole_bytes, buffer: Vec::new(), manifest, inputs: None })
    }

    /// Keeps inputs beside the log, so that replay needs nothing else.
    pub fn keep_inputs(self) -> Self {
        let folder = inputs_beside(&self.path);
        self.keep_inputs_in(folder)
    }

    /// Keeps inputs in `folder`.
    pub fn keep_inputs_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.inputs = Some(folder.into());
        self
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the manifest will vouch for after the next flush.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds a receipt to the chain and returns its hash. It reaches the disk with the next [`Writer::flush`].
    ///
    /// # Errors
    /// [`Error::Encode`] if the receipt cannot be written as JSON.
    pub fn push(&mut self, receipt: &Receipt) -> Result<Digest, Error> {
        let body = serde_json::to_vec(receipt).map_err(|source| Error::Encode { what: "a receipt", source })?;
        let prev = self.manifest.head;
        let hash = Digest::chained(prev, &body);
        self.buffer.extend_from_slice(format!("{{\"prev\":\"{prev}\",\"hash\":\"{hash}\",\"body\":").as_bytes());
        self.buffer.extend_from_slice(&body);
        self.buffer.extend_from_slice(b"}\n");
        self.manifest.records += 1;
        self.manifest.first.get_or_insert(hash);
        self.manifest.head = hash;
        Ok(hash)
    }

    /// Keeps an input if the writer was told to keep inputs, and returns its hash in any case.
    ///
    /// # Errors
    /// [`Error::Io`] if the input cannot be written.
    pub fn keep(&self, input: &Input) -> Result<Digest, Error> {
        match &self.inputs {
            Some(folder) => input.keep(folder),
            None => Ok(input.digest()),
        }
    }

    /// Writes what was pushed, then the manifest. Call it once per batch.
    ///
    /// # Errors
    /// [`Error::Io`] if something cannot be written; what was pushed stays in memory, so the call can be repeated.
    /// [`Error::CannotAppend`] if the file is not as this writer left it.
    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            let found = self.file.metadata().map_err(Error::io(&self.path, "look at"))?.len();
            if found != self.length {
                return Err(Error::CannotAppend {
                    path: self.path.clone(),
                    what: format!("the file has {found} bytes where this writer left {}", self.length),
                    advice: "give each session a log of its own",
                });
            }
            let end = SeekFrom::Start(self.length);
            let written = self.file.seek(end).and_then(|_| self.file.write_all(&self.buffer));
            if let Err(e) = written {
                // Half a line would make the log unreadable for the next writer; if this fails too, `recover` helps.
                self.file.set_len(self.length).ok();
                return Err(Error::io(&self.path, "write")(e));
            }
            self.length += self.buffer.len() as u64;
            self.buffer.clear();
        }
        self.write_manifest()
    }

    /// Flushes and asks the system to bring the log to the disk itself.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn finish(mut self) -> Result<Manifest, Error> {
        self.flush()?;
        self.file.sync_all().map_err(Error::io(&self.path, "sync"))?;
        Ok(self.manifest.clone())
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let text =
            serde_json::to_vec_pretty(&self.manifest).map_err(|source| Error::Encode { what: "a manifest", source })?;
        files::write_atomically(&Manifest::path_of(&self.path), &text)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.buffer.is_empty()
            && let Err(e) = self.flush()
        {
            log::error!("receipts were lost: {e}");
        }
    }
}

/// What a crash leaves behind, as opposed to what a hand changed.
fn is_torn_write(fault: &Fault) -> bool {
    matches!(fault, Fault::Truncated { .. } | Fault::Unvouched { .. } | Fault::ManifestMissing)
}

fn exists(path: &Path) -> Result<bool, Error> {
    fs::exists(path).map_err(Error::io(path, "look at"))
}
