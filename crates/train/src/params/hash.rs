//! The hash of parameters.

use super::Named;

/// BLAKE3, in hex, over parameters and buffers, each group in the order of its paths.
pub(super) fn of(params: Vec<Named>, buffers: Vec<Named>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (group, mut named) in [("parameters", params), ("buffers", buffers)] {
        text(&mut hasher, group);
        number(&mut hasher, named.len());
        named.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, dims, values) in &named {
            text(&mut hasher, path);
            number(&mut hasher, dims.len());
            dims.iter().for_each(|&d| number(&mut hasher, d));
            // Little-endian on every platform.
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// With its length, so that no two lists of texts give the same bytes.
fn text(hasher: &mut blake3::Hasher, text: &str) {
    number(hasher, text.len());
    hasher.update(text.as_bytes());
}

fn number(hasher: &mut blake3::Hasher, n: usize) {
    hasher.update(&u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes());
}
