//! Which parameter stands where: ordered paths, each with shape, offset in the arena, and kind.

use std::collections::HashMap;

use acclimate_tensor::Shape;

use crate::data::nearest;
use crate::error::{Error, Result};

/// Offsets are multiples of this many elements: 256 bytes, the strictest alignment of storage bindings.
pub const ALIGNMENT: usize = 64;

/// What a parameter or buffer is for. The layer that owns it says so, and selections go by it, never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Weight of a linear map or a convolution.
    Weight,
    /// Bias of a linear map or a convolution.
    Bias,
    /// Scale γ of a normalization layer.
    NormScale,
    /// Shift β of a normalization layer.
    NormShift,
    /// Table of an embedding.
    Embedding,
    /// Running mean of a normalization layer (a buffer).
    RunningMean,
    /// Running variance of a normalization layer (a buffer).
    RunningVar,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether it is the scale or the shift of a normalization layer.
    pub fn is_norm_affine(self) -> bool {
        matches!(self, Kind::NormScale | Kind::NormShift)
    }
}

/// One parameter or buffer of an [`Index`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path, for example `layer1.0.bn1.weight`.
    pub path: String,
    /// Its shape.
    pub shape: Shape,
    /// First element in the arena.
    pub offset: usize,
    /// What it is for.
    pub kind: Kind,
}

/// Ordered paths and their places in an arena. Two indices are equal when all of that is.
#[derive(Clone, Debug, Default)]
pub struct Index {
    entries: Vec<Entry>,
    by_path: HashMap<String, usize>,
    len: usize,
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Index {}

impl Index {
    /// Puts parameters one behind the other. Fails on a path used twice, a shape without elements, or a sum of sizes
    /// that overflows.
    pub fn new(items: impl IntoIterator<Item = (String, Shape, Kind)>) -> Result<Self> {
        let mut index = Index::default();
        for (path, shape, kind) in items {
            if shape.numel() == 0 {
                return Err(Error::argument("parameter", "at least one element", format!("`{path}` of shape {shape}")));
            }
            let end = index.len.checked_add(shape.numel()).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
            let Some(end) = end.filter(|&end| end <= isize::MAX.unsigned_abs() / 8) else {
                return Err(Error::argument(
                    "parameters",
                    "sizes whose sum can be addressed",
                    format!("`{path}` of shape {shape}"),
                ));
            };
            if index.by_path.insert(path.clone(), index.entries.len()).is_some() {
                return Err(Error::DuplicatePath { path });
            }
            index.entries.push(Entry { path, shape, offset: index.len, kind });
            index.len = end;
        }
        Ok(index)
    }

    /// The entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.by_path.get(path).map(|&i| &self.entries[i])
    }

    /// The entry of a path, or an error that suggests the nearest one. `what` is `parameter` or `buffer`.
    pub fn require(&self, what: &'static str, path: &str) -> Result<&Entry> {
        self.get(path).ok_or_else(|| Error::UnknownPath {
            what,
            path: path.to_owned(),
            nearest: nearest(path, self.entries.iter().map(|e| e.path.as_str())),
        })
    }

    /// Number of elements of the arena, padding included; a multiple of [`ALIGNMENT`].
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of values, padding excluded.
    pub fn n_values(&self) -> usize {
        self.entries.iter().map(|e| e.shape.numel()).sum()
    }

    /// The index of some of the entries, in this order, one behind the other. Fails on unknown paths and on none.
    pub fn subset(&self, paths: &[String]) -> Result<Index> {
        let chosen = paths.iter().map(|path| self.require("parameter", path)).collect::<Result<Vec<_>>>()?;
        if chosen.is_empty() {
            return Err(Error::argument("subset of parameters", "at least one path", "none"));
        }
        Index::new(chosen.into_iter().map(|e| (e.path.clone(), e.shape.clone(), e.kind)))
    }

    /// Values of all entries at their offsets, zeros between them.
    pub(crate) fn pack<'a>(&self, values: impl Fn(&Entry) -> Result<&'a [f32]>) -> Result<Vec<f32>> {
        let mut arena = vec![0.0; self.len];
        for entry in &self.entries {
            let n = entry.shape.numel();
            let value = values(entry)?;
            if value.len() != n {
                let (expected, found) = (entry.shape.clone(), vec![value.len()]);
                return Err(Error::ValueShape { path: entry.path.clone(), expected, found });
            }
            arena[entry.offset..entry.offset + n].copy_from_slice(value);
        }
        Ok(arena)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(dims: &[&[usize]]) -> Result<Index> {
        let item = |(i, d): (usize, &&[usize])| Ok((format!("p{i}"), Shape::new(d)?, Kind::Weight));
        Index::new(dims.iter().enumerate().map(item).collect::<Result<Vec<_>>>()?)
    }

    #[test]
    fn offsets_are_aligned_and_do_not_overlap() {
        let index = index(&[&[3], &[64], &[65], &[]]).unwrap();
        let offsets: Vec<usize> = index.entries().iter().map(|e| e.offset).collect();
        assert_eq!(offsets, [0, 64, 128, 256]);
        assert_eq!((index.len(), index.n_values()), (320, 133));
    }

    #[test]
    fn refuses_what_cannot_be_laid_out() {
        assert!(index(&[&[0, 3]]).is_err());
        assert!(index(&[&[1 << 57], &[1 << 58], &[1 << 58], &[1 << 59]]).is_err());
        let twice = ["a", "a"].map(|p| (p.to_owned(), Shape::scalar(), Kind::Bias));
        assert_eq!(
            Index::new(twice).unwrap_err().to_string(),
            "the path `a` is used twice; give each layer a name of its own"
        );
    }
}
