//! Pictures of ImageNet, each named by its label: `0007_n01514668_cock.jpg`.
//!
//! J. Deng, W. Dong, R. Socher, L.-J. Li, K. Li, L. Fei-Fei: ImageNet: a large-scale hierarchical image database, CVPR 2009.

use std::fs;
use std::path::Path;

use super::open::{DataFile, Gzip};
use super::{DataError, Images, picture};

/// How many classes there are.
pub const N_CLASSES: u32 = 1000;
/// A tar archive is made of blocks of so many bytes.
const BLOCK: usize = 512;

/// The pictures of a folder or of a tar archive, in the order of their names, each cut to the `side` x `side` pixels in its
/// middle. A name begins with the label and an underscore; other files are left out.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Format`] if there is no picture, one is damaged or smaller than `side`, or the archive
/// is none; [`DataError::Truncated`] if it ends early; [`DataError::Label`] for a label of 1000 or more.
pub fn read(path: impl AsRef<Path>, side: usize) -> Result<Images, DataError> {
    let path = path.as_ref();
    let mut files = if path.is_dir() { folder(path)? } else { archive(path)? };
    files.sort();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (name, bytes) in &files {
        let Some(label) = name.split_once('_').and_then(|(label, _)| label.parse::<u32>().ok()) else { continue };
        let picture = picture::decode(bytes, &path.join(name))?;
        middle(&picture, side, &path.join(name), &mut pixels)?;
        labels.push(label);
    }
    if labels.is_empty() {
        let expected = "pictures named by their label, as 0007_n01514668_cock.jpg";
        return Err(DataError::format(path, expected, format!("{} other files", files.len()), "check the path"));
    }
    Images::new(pixels, labels, [3, side, side], u32::MAX)?.relabel(N_CLASSES, path)
}

/// The `side` x `side` pixels in the middle, appended.
fn middle(picture: &Images, side: usize, path: &Path, to: &mut Vec<u8>) -> Result<(), DataError> {
    let (height, width) = (picture.height(), picture.width());
    if side == 0 || height < side || width < side {
        let expected = format!("a picture of at least {side} x {side}, at least 1 x 1");
        return Err(DataError::format(path, expected, format!("{height} x {width}"), "choose a smaller side"));
    }
    let (top, left) = ((height - side) / 2, (width - side) / 2);
    for plane in picture.pixels().chunks(height * width) {
        for row in plane.chunks(width).skip(top).take(side) {
            to.extend_from_slice(&row[left..left + side]);
        }
    }
    Ok(())
}

type Named = (String, Vec<u8>);

fn folder(path: &Path) -> Result<Vec<Named>, DataError> {
    let io = |source| DataError::io(path, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().is_file() {
            let bytes = fs::read(entry.path()).map_err(|source| DataError::io(&entry.path(), source))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
    }
    Ok(files)
}

/// The plain files of a tar archive (POSIX ustar), which may be packed with gzip.
fn archive(path: &Path) -> Result<Vec<Named>, DataError> {
    let all = DataFile::open(path, Gzip::ByMagic)?.rest()?;
    let (mut files, mut at) = (Vec::new(), 0);
    while let Some(header) = all.get(at..at + BLOCK) {
        if header.iter().all(|&b| b == 0) {
            break;
        }
        let text = |from: usize, to: usize| {
            let field = &header[from..to];
            String::from_utf8_lossy(&field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]).into_owned()
        };
        let size = usize::from_str_radix(text(124, 136).trim(), 8).ok().filter(|_| header[257..262] == *b"ustar");
        let Some(size) = size else {
            let found = format!("no header at byte {at}");
            return Err(DataError::format(path, "a tar archive", found, "check that it is the right file"));
        };
        let Some(bytes) = all.get(at + BLOCK..).and_then(|rest| rest.get(..size)) else {
            let (expected_bytes, found_bytes) = ((at + BLOCK).saturating_add(size) as u64, all.len() as u64);
            return Err(DataError::Truncated { path: path.to_owned(), expected_bytes, found_bytes });
        };
        if matches!(header[156], b'0' | 0) {
            let name = text(0, 100);
            files.push((name.rsplit('/').next().unwrap_or_default().to_owned(), bytes.to_vec()));
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    Ok(files)
}
