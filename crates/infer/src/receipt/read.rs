//! Reading a log: every byte of every line is covered by a check, and what does not hold is reported at its record.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::write::genesis;
use super::{Digest, Manifest, Receipt};
use crate::error::Error;

/// A line longer than this is no record of ours; reading stops being patient before memory does.
const MAX_LINE: u64 = 256 << 20;

/// One record of a log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number in the log, from 0.
    pub record: usize,
    /// Its hash, which covers everything before it.
    pub hash: Digest,
    /// What it says.
    pub receipt: Receipt,
}

/// Something in a log that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A record is not what was written.
    Corrupt {
        /// Its number in the log, from 0.
        record: usize,
        /// What does not hold.
        what: String,
    },
    /// The last line ends before its record does. The records before it are not affected.
    Truncated {
        /// The number the record would have had.
        record: usize,
        /// How many bytes of it are there.
        bytes: u64,
    },
    /// The manifest vouches for more records than the log has: records at the end were dropped.
    Dropped {
        /// Records the manifest vouches for.
        vouched: usize,
        /// Records found.
        found: usize,
    },
    /// The log goes on after what the manifest vouches for, as after a crash between the two writes.
    Unvouched {
        /// Records the manifest vouches for.
        vouched: usize,
        /// Records found.
        found: usize,
    },
    /// There is no manifest, so records dropped at the end could not be noticed.
    ManifestMissing,
    /// The manifest is not this log's, or not a manifest.
    ManifestDiffers {
        /// What does not agree.
        what: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { record, what } => write!(f, "record {record} was changed: {what}"),
            Self::Truncated { record, bytes } => {
                write!(f, "the last line is truncated: only {bytes} bytes of record {record} are there")
            }
            Self::Dropped { vouched, found } => {
                write!(f, "records were dropped at the end: the manifest vouches for {vouched}, the log has {found}")
            }
            Self::Unvouched { vouched, found } => {
                write!(f, "the manifest vouches for {vouched} records, the log has {found}")
            }
            Self::ManifestMissing => {
                f.write_str("the manifest is missing, so dropped records at the end could not be noticed")
            }
            Self::ManifestDiffers { what } => write!(f, "the manifest does not fit the log: {what}"),
        }
    }
}

/// What a log's hashes and manifest say.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Whole lines in the log, sound or not.
    pub records: usize,
    /// Hash of the first record.
    pub first: Option<Digest>,
    /// Hash of the last record; of an empty log, the hash every chain starts from.
    pub head: Digest,
    /// Bytes of the log up to the end of the last whole line.
    pub whole_bytes: u64,
    /// What does not hold, in the order of the log, the manifest last.
    pub faults: Vec<Fault>,
}

impl Verification {
    /// True if every byte is as it was written and nothing is missing.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.records == 1 { "record" } else { "records" };
        write!(f, "{} {plural}, head {}: ", self.records, self.head.short())?;
        match self.faults.as_slice() {
            [] => f.write_str("the chain holds and the manifest agrees"),
            [only] => write!(f, "{only}"),
            [first, rest @ ..] => write!(f, "{first} (and {} more)", rest.len()),
        }
    }
}

/// A log read whole: what is sound in it, and what is not.
#[derive(Clone, Debug)]
pub struct Log {
    /// The sound records, in order.
    pub records: Vec<Record>,
    /// What the hashes and the manifest say.
    pub verification: Verification,
}

/// Reads a log and checks it. A fault is no error: the sound records are returned with what was found.
///
/// # Errors
/// [`Error::Io`] if the log cannot be read.
pub fn read(path: &Path) -> Result<Log, Error> {
    let mut reader = Reader::open(path)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(Log { records, verification: reader.finish()? })
}

/// Checks a log without keeping its records in memory.
///
/// # Errors
/// [`Error::Io`] if the log cannot be read.
pub fn verify(path: &Path) -> Result<Verification, Error> {
    let mut reader = Reader::open(path)?;
    while reader.next_record()?.is_some() {}
    reader.finish()
}

/// Reads a log record by record.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    line: Vec<u8>,
    manifest: Result<Manifest, Fault>,
    /// What the next line may name as its predecessor; empty if the line before could not be taken apart.
    expected_prev: Vec<Digest>,
    /// Did the line that the manifest calls the last one have the hash that the manifest gives?
    head_as_vouched: bool,
    seen: Verification,
}

impl Reader {
    /// Opens a log and its manifest.
    ///
    /// # Errors
    /// [`Error::Io`] if the log cannot be opened, or the manifest is there but cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let manifest = read_manifest(path)?;
        let head_as_vouched = manifest.as_ref().is_ok_and(|m| m.records > 0 || m.head == genesis());
        let seen = Verification { records: 0, first: None, head: genesis(), whole_bytes: 0, faults: Vec::new() };
        Ok(Self {
            path: path.to_path_buf(),
            lines: BufReader::new(file),
            line: Vec::new(),
            manifest,
            expected_prev: vec![genesis()],
            head_as_vouched,
            seen,
        })
    }

    /// The next sound record; lines that are not sound are noted as faults and skipped. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Io`] if the log cannot be read on.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        loop {
            self.line.clear();
            let read = (&mut self.lines)
                .take(MAX_LINE)
                .read_until(b'\n', &mut self.line)
                .map_err(Error::io(&self.path, "read"))?;
            if read == 0 {
                return Ok(None);
            }
            let record = self.seen.records;
            let Some(line) = self.line.strip_suffix(b"\n") else {
                let what = "the line has no end within the size of any record".to_owned();
                self.seen.faults.push(if read as u64 == MAX_LINE {
                    Fault::Corrupt { record, what }
                } else {
                    Fault::Truncated { record, bytes: read as u64 }
                });
                return Ok(None);
            };
            let checked = check_line(line, &self.expected_prev);
            self.seen.records += 1;
            self.seen.whole_bytes += read as u64;
            self.note_hash(record, &checked);
            self.expected_prev = checked.next_prev;
            match checked.receipt {
                Ok((hash, receipt)) => return Ok(Some(Record { record, hash, receipt })),
                Err(what) => self.seen.faults.push(Fault::Corrupt { record, what }),
            }
        }
    }

    fn note_hash(&mut self, record: usize, line: &CheckedLine) {
        if let Some(&hash) = line.next_prev.first() {
            self.seen.head = hash;
            if record == 0 {
                self.seen.first = Some(hash);
            }
        }
        if let Ok(manifest) = &self.manifest {
            let agrees = |hash: &Digest| line.next_prev.is_empty() || line.next_prev.contains(hash);
            if record + 1 == manifest.records {
                self.head_as_vouched = agrees(&manifest.head);
            }
            if record == 0 && manifest.first.is_some_and(|first| !agrees(&first)) {
                self.head_as_vouched = false;
            }
        }
    }

    /// What was found, the manifest included. Reads to the end if that has not been done.
    ///
    /// # Errors
    /// [`Error::Io`] if the log cannot be read on.
    pub fn finish(mut self) -> Result<Verification, Error> {
        while self.next_record()?.is_some() {}
        let found = self.seen.records;
        match self.manifest {
            Err(fault) => self.seen.faults.push(fault),
            Ok(manifest) => {
                let vouched = manifest.records;
                if found < vouched {
                    self.seen.faults.push(Fault::Dropped { vouched, found });
                } else if !self.head_as_vouched {
                    let what = "its hashes are not those of the records it counts".to_owned();
                    self.seen.faults.push(Fault::ManifestDiffers { what });
                } else if found > vouched {
                    self.seen.faults.push(Fault::Unvouched { vouched, found });
                }
            }
        }
        Ok(self.seen)
    }
}

struct CheckedLine {
    /// What the next line may name as its predecessor: the hash this line bears and, if it differs, the one it
    /// should bear. So one changed byte is reported once, wherever in the line it is.
    next_prev: Vec<Digest>,
    receipt: Result<(Digest, Receipt), String>,
}

fn check_line(line: &[u8], expected_prev: &[Digest]) -> CheckedLine {
    let Some((prev, hash, body)) = take_apart(line) else {
        let what = "the line is not {\"prev\":…,\"hash\":…,\"body\":…}".to_owned();
        return CheckedLine { next_prev: Vec::new(), receipt: Err(what) };
    };
    // A changed `prev` is a fault of this line, so its hash is checked with the predecessor it should name.
    let linked = expected_prev.is_empty() || expected_prev.contains(&prev);
    let fits = |from: &Digest| Digest::chained(*from, body) == hash;
    let sound = fits(&prev) || expected_prev.iter().any(fits);
    let receipt = if !sound {
        Err("its content does not have its hash".to_owned())
    } else if !linked {
        Err("it does not follow the record before it".to_owned())
    } else {
        serde_json::from_slice(body)
            .map(|receipt| (hash, receipt))
            .map_err(|e| format!("its hash holds, but it is not a receipt this version can read: {e}"))
    };
    let should_bear = Digest::chained(prev, body);
    let mut next_prev = vec![hash];
    if should_bear != hash {
        next_prev.push(should_bear);
    }
    CheckedLine { next_prev, receipt }
}

/// Predecessor, hash and body of a line, which must have exactly the form that the writer gives it.
fn take_apart(line: &[u8]) -> Option<(Digest, Digest, &[u8])> {
    let (prev, rest) = take_digest(line.strip_prefix(b"{\"prev\":\"")?)?;
    let (hash, rest) = take_digest(rest.strip_prefix(b"\",\"hash\":\"")?)?;
    let body = rest.strip_prefix(b"\",\"body\":")?.strip_suffix(b"}")?;
    Some((prev, hash, body))
}

fn take_digest(text: &[u8]) -> Option<(Digest, &[u8])> {
    let (hex, rest) = text.split_at_checked(Digest::HEX_LEN)?;
    let digest = std::str::from_utf8(hex).ok()?.parse::<Digest>().ok()?;
    // Upper-case digits would read as the same hash, but are not what was written.
    (digest.to_string().as_bytes() == hex).then_some((digest, rest))
}

/// The manifest beside a log, or the fault that stands for it.
fn read_manifest(log: &Path) -> Result<Result<Manifest, Fault>, Error> {
    let path = Manifest::path_of(log);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .map_err(|e| Fault::ManifestDiffers { what: format!("it is not a manifest: {e}") })),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Err(Fault::ManifestMissing)),
        Err(e) => Err(Error::io(&path, "read")(e)),
    }
}
