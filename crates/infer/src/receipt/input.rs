//! An input as replay needs it: shape and values, kept in a folder under the name of its content.
//!
//! A kept input is a file `<hash>.f32`: the eight bytes `ACCLIN01`, the rank and the sizes as little-endian u64, the
//! values as little-endian f32. Equal inputs are one file.

use std::fs;
use std::path::{Path, PathBuf};

use super::Digest;
use super::digest::little_endian;
use crate::error::Error;
use crate::files;

const MAGIC: &[u8; 8] = b"ACCLIN01";
/// A rank beyond this is no tensor of ours, but a damaged file.
const MAX_RANK: u64 = 16;

/// One input: a dense f32 tensor on the host.
#[derive(Clone, Debug)]
pub struct Input {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Input {
    /// An input of `shape` with its values in row-major order. Values may be NaN: a hostile input is kept as it came.
    ///
    /// # Errors
    /// [`Error::Size`] if the number of values is not the product of the sizes.
    pub fn new(shape: impl Into<Vec<usize>>, values: impl Into<Vec<f32>>) -> Result<Self, Error> {
        let (shape, values) = (shape.into(), values.into());
        match element_count(&shape) {
            Some(count) if count == values.len() => Ok(Self { shape, values }),
            Some(count) => Err(Error::size(format!("values of an input of shape {shape:?}"), count, values.len())),
            None => Err(Error::size("elements of an input", "a number that fits usize", format!("shape {shape:?}"))),
        }
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The hash of shape and values that receipts refer to.
    pub fn digest(&self) -> Digest {
        Digest::of_tensor(&self.shape, &self.values)
    }

    /// Writes the input into `folder` under the name of its content; does nothing if it is there already.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or the file cannot be written.
    pub fn keep(&self, folder: &Path) -> Result<Digest, Error> {
        let digest = self.digest();
        let path = file_of(folder, digest);
        let header = header(&self.shape);
        let length = (header.len() + self.values.len() * size_of::<f32>()) as u64;
        // A file of the right name and length was renamed into place whole; its content is checked on reading.
        if fs::metadata(&path).is_ok_and(|found| found.len() == length) {
            return Ok(digest);
        }
        let mut bytes = header;
        bytes.extend_from_slice(&little_endian(&self.values));
        files::write_atomically(&path, &bytes)?;
        Ok(digest)
    }

    /// Reads a kept input; `None` if `folder` has no file for it.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the file is not the input of that hash; [`Error::Io`] if it cannot be read.
    pub fn load(folder: &Path, digest: Digest) -> Result<Option<Self>, Error> {
        let path = file_of(folder, digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, "read")(e)),
        };
        let malformed = |what: &str| Error::Malformed { path: path.clone(), what: what.to_owned() };
        let (shape, data) = parse(&bytes).ok_or_else(|| malformed("not a kept input: its header does not fit it"))?;
        let values = data.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect::<Vec<_>>();
        let input = Self { shape, values };
        if input.digest() == digest { Ok(Some(input)) } else { Err(malformed("its content is not what its name says")) }
    }
}

fn file_of(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{digest}.f32"))
}

fn header(shape: &[usize]) -> Vec<u8> {
    let sizes = std::iter::once(shape.len()).chain(shape.iter().copied());
    MAGIC.iter().copied().chain(sizes.flat_map(|size| (size as u64).to_le_bytes())).collect()
}

fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(size))
}

/// Shape and value bytes of a kept input; `None` if what the header declares is not what the file holds.
fn parse(bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (rank, mut rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let rank = u64::from_le_bytes(*rank);
    if rank > MAX_RANK {
        return None;
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        let (size, tail) = rest.split_first_chunk::<8>()?;
        shape.push(usize::try_from(u64::from_le_bytes(*size)).ok()?);
        rest = tail;
    }
    let declared = element_count(&shape)?.checked_mul(size_of::<f32>())?;
    (declared == rest.len()).then_some((shape, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_with_its_bits() {
        let folder = tempfile::tempdir().unwrap();
        let input = Input::new([2, 2], [f32::NAN, -0.0, f32::INFINITY, 0.1]).unwrap();
        let digest = input.keep(folder.path()).unwrap();
        let back = Input::load(folder.path(), digest).unwrap().unwrap();
        assert_eq!(back.shape(), [2, 2]);
        assert_eq!(little_endian(back.values()), little_endian(input.values()));
        assert!(Input::load(folder.path(), Digest::of_bytes(b"other")).unwrap().is_none());
    }

    #[test]
    fn shape_and_sign_are_part_of_the_content() {
        let digest = |shape: &[usize], values: &[f32]| Input::new(shape, values).unwrap().digest();
        assert_ne!(digest(&[2, 3], &[1.0; 6]), digest(&[3, 2], &[1.0; 6]));
        assert_ne!(digest(&[1], &[0.0]), digest(&[1], &[-0.0]));
        assert!(Input::new([2, 3], [0.0; 5]).is_err());
        assert!(Input::new([usize::MAX, 2], [0.0; 2]).is_err());
    }

    #[test]
    fn a_file_that_lies_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let input = Input::new([3], [1.0, 2.0, 3.0]).unwrap();
        let digest = input.keep(folder.path()).unwrap();
        let path = file_of(folder.path(), digest);
        let good = fs::read(&path).unwrap();
        let mut huge = good.clone();
        huge[16..24].copy_from_slice(&u64::MAX.to_le_bytes()); // a size no file can hold
        let mut ranked = good.clone();
        ranked[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let mut altered = good.clone();
        altered[27] ^= 1;
        for bad in [&good[..good.len() - 1], &good[..20], &good[..3], &huge, &ranked, &altered, b""] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(Input::load(folder.path(), digest), Err(Error::Malformed { .. })));
        }
    }
}
