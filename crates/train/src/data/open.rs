//! Opening a data file that may be compressed with gzip, and reading no more than was asked for.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::DataError;

const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Deflate packs at most 1032 bytes into one (a limit of the format), plus what header and trailer take.
const GZIP_MAX_RATIO: u64 = 1032;
/// No data set read here has more; a file that unpacks to more is damaged or hostile.
const MAX_BYTES: u64 = 1 << 31;

/// A data file, unpacked on the way.
pub(super) struct DataFile<'a> {
    path: &'a Path,
    reader: Box<dyn Read>,
    n_read: u64,
    /// The most bytes the file can hold once unpacked.
    n_at_most: u64,
    bytes_on_disk: u64,
}

/// When a file that begins like gzip is gzip.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gzip {
    /// Always: the format has a magic number of its own.
    ByMagic,
    /// Unless its length is a multiple of this: raw records may begin with any byte. The ending `.gz` decides.
    UnlessRecordsOf(u64),
}

impl<'a> DataFile<'a> {
    pub(super) fn open(path: &'a Path, gzip: Gzip) -> Result<Self, DataError> {
        let io = |source| DataError::io(path, source);
        let mut file = File::open(path).map_err(io)?;
        let bytes_on_disk = file.metadata().map_err(io)?.len();
        let mut start = Vec::with_capacity(GZIP_MAGIC.len());
        file.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut start).map_err(io)?;
        file.rewind().map_err(io)?;
        let named_gz = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
        let packed = start == GZIP_MAGIC
            && match gzip {
                Gzip::ByMagic => true,
                Gzip::UnlessRecordsOf(bytes) => named_gz || bytes_on_disk % bytes != 0,
            };
        let (reader, n_at_most): (Box<dyn Read>, u64) = if packed {
            (Box::new(MultiGzDecoder::new(BufReader::new(file))), bytes_on_disk.saturating_mul(GZIP_MAX_RATIO))
        } else {
            (Box::new(BufReader::new(file)), bytes_on_disk)
        };
        Ok(Self { path, reader, n_read: 0, n_at_most, bytes_on_disk })
    }

    /// Exactly `n` bytes, or an error that says how many there were.
    pub(super) fn exactly(&mut self, n: u64) -> Result<Vec<u8>, DataError> {
        let end = self.n_read.saturating_add(n);
        let truncated =
            |found_bytes| DataError::Truncated { path: self.path.to_owned(), expected_bytes: end, found_bytes };
        if end > self.n_at_most {
            return Err(truncated(self.bytes_on_disk));
        }
        if end > MAX_BYTES {
            return Err(self.too_large());
        }
        let mut bytes = Vec::new();
        // Grows with what is really there; a compressed file may declare far more than it holds.
        self.reader.by_ref().take(n).read_to_end(&mut bytes).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => truncated(self.n_read),
            _ => DataError::io(self.path, source),
        })?;
        self.n_read += bytes.len() as u64;
        if (bytes.len() as u64) < n {
            return Err(DataError::Truncated {
                path: self.path.to_owned(),
                expected_bytes: end,
                found_bytes: self.n_read,
            });
        }
        Ok(bytes)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let room = MAX_BYTES - self.n_read.min(MAX_BYTES);
        let result = self.reader.by_ref().take(room + 1).read_to_end(&mut bytes);
        self.n_read += bytes.len() as u64;
        match result {
            Err(source) => Err(DataError::io(self.path, source)),
            Ok(_) if bytes.len() as u64 > room => Err(self.too_large()),
            Ok(_) => Ok(bytes),
        }
    }

    /// Refuses a file that goes on.
    pub(super) fn end(mut self) -> Result<(), DataError> {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => Err(DataError::TooLong { path: self.path.to_owned(), expected_bytes: self.n_read }),
            Err(source) => Err(DataError::io(self.path, source)),
        }
    }

    fn too_large(&self) -> DataError {
        DataError::format(self.path, format!("at most {MAX_BYTES} bytes of data"), "more", "split the file")
    }
}
