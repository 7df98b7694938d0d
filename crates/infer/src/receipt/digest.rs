//! Content hashes (BLAKE3) of bytes, tensors and configurations, written as 64 hexadecimal digits.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A BLAKE3 hash. Equal digests mean equal content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(blake3::Hash);

impl Digest {
    /// Number of characters of the written form.
    pub const HEX_LEN: usize = 64;

    /// The hash of some bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// The hash of a tensor: rank and sizes as little-endian u64, then the values as little-endian f32.
    /// Bits count: 0 and −0 differ, and so do two NaN with different payloads.
    pub fn of_tensor(shape: &[usize], values: &[f32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(shape.len() as u64).to_le_bytes());
        for &size in shape {
            hasher.update(&(size as u64).to_le_bytes());
        }
        hasher.update(&little_endian(values));
        Self(hasher.finalize())
    }

    /// The hash of a JSON value's compact form. Key order does not count: `serde_json` sorts keys.
    pub fn of_json(value: &serde_json::Value) -> Self {
        Self::of_bytes(value.to_string().as_bytes())
    }

    /// The hash of one hash followed by some bytes: a link of a chain.
    pub fn chained(prev: Self, bytes: &[u8]) -> Self {
        Self(blake3::Hasher::new().update(prev.0.as_bytes()).update(bytes).finalize())
    }

    /// The first eight characters: enough for people, not for programs.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

/// The values as little-endian bytes, without a copy where the machine stores them so.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash)
    }
}

impl FromStr for Digest {
    type Err = blake3::HexError;

    /// Reads 64 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|e| D::Error::custom(format!("not a hash: {e}")))
    }
}
