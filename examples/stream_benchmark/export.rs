//! Writes the shifted images for another program, as NumPy files.

use std::fs;
use std::path::Path;

use acclimate::infer::evaluate::stream::Visit;
use anyhow::{Context, Result};

use crate::subject::Shifted;

/// `<shift>.images.npy` (bytes [n, c, h, w]), `<shift>.labels.npy`, and `<shift>.order.npy`: the positions of the
/// images in the order in which the stream `iid` has them.
pub fn write(folder: &Path, shifted: &[Shifted], plan: &[Visit]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for (part, shift) in shifted.iter().enumerate() {
        let images = &shift.images;
        let save = |what: &str, kind: &str, shape: &[usize], bytes: &[u8]| -> Result<()> {
            let path = folder.join(format!("{}.{what}.npy", shift.name));
            fs::write(&path, npy(kind, shape, bytes)).with_context(|| format!("write {}", path.display()))
        };
        let n = images.len();
        save("images", "|u1", &[n, images.channels(), images.height(), images.width()], images.pixels())?;
        let labels: Vec<u8> = images.labels().iter().flat_map(|label| label.to_le_bytes()).collect();
        save("labels", "<u4", &[n], &labels)?;
        let rows = plan.iter().flat_map(|visit| &visit.rows).filter(|row| row.part == part);
        let order: Vec<u8> = rows.flat_map(|row| (row.item as u64).to_le_bytes()).collect();
        save("order", "<u8", &[n], &order)?;
    }
    Ok(())
}

/// An array in NumPy's format, version 1.0.
fn npy(kind: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data begins at a multiple of 64: ten bytes stand before the header.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(bytes);
    out
}
