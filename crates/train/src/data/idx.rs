//! The idx format of MNIST and Fashion-MNIST: a big-endian header, then bytes. Plain or gzip.
//!
//! Images: magic 2051, count, rows, columns, pixels. Labels: magic 2049, count, labels.
//! H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning (2017).

use std::path::Path;

use super::open::{DataFile, Gzip};
use super::{DataError, Images};

const IMAGES_MAGIC: u32 = 2051;
const LABELS_MAGIC: u32 = 2049;

/// The 10 classes of Fashion-MNIST, by label.
pub const FASHION_CLASSES: [&str; 10] =
    ["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// The Fashion-MNIST subset kept in this repository: 8,000 training and 2,000 test images of 28 x 28, balanced.
/// `dir` is the folder with the four `fashion8k-*.gz` files.
///
/// # Errors
/// Those of [`read`].
pub fn fashion8k(dir: impl AsRef<Path>) -> Result<(Images, Images), DataError> {
    let part = |name: &str| {
        let file = |kind: &str| dir.as_ref().join(format!("fashion8k-{name}-{kind}-ubyte.gz"));
        read(file("images-idx3"), file("labels-idx1"), 10)
    };
    Ok((part("train")?, part("t10k")?))
}

/// One file of gray images and its file of labels, each below `n_classes`.
///
/// # Errors
/// [`DataError::Io`], [`DataError::Format`] (another magic number, counts that differ), [`DataError::Truncated`],
/// [`DataError::TooLong`], [`DataError::Label`].
pub fn read(images: impl AsRef<Path>, labels: impl AsRef<Path>, n_classes: u32) -> Result<Images, DataError> {
    let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
    let (pixels, [n, height, width]) = read_images(images_path)?;
    let labels = read_labels(labels_path)?;
    if labels.len() as u64 != u64::from(n) {
        return Err(DataError::format(
            labels_path,
            format!("{n} labels, as many as images in {}", images_path.display()),
            labels.len(),
            "take the two files of one data set",
        ));
    }
    if height == 0 || width == 0 {
        return Err(DataError::format(
            images_path,
            "images of at least 1 x 1",
            format!("{height} x {width}"),
            "get the file again",
        ));
    }
    let set = Images::new(pixels, labels, [1, to_usize(height), to_usize(width)], u32::MAX)?;
    set.relabel(n_classes, labels_path)
}

/// The pixels of an images file, with [count, rows, columns].
fn read_images(path: &Path) -> Result<(Vec<u8>, [u32; 3]), DataError> {
    let mut file = DataFile::open(path, Gzip::ByMagic)?;
    let size = header::<3>(&mut file, path, IMAGES_MAGIC, "images")?;
    // Three factors below 2^32 may pass 2^64; what saturates is larger than any file.
    let bytes = size.iter().fold(1u64, |product, &axis| product.saturating_mul(u64::from(axis)));
    let pixels = file.exactly(bytes)?;
    file.end()?;
    Ok((pixels, size))
}

fn read_labels(path: &Path) -> Result<Vec<u32>, DataError> {
    let mut file = DataFile::open(path, Gzip::ByMagic)?;
    let [n] = header(&mut file, path, LABELS_MAGIC, "labels")?;
    let labels = file.exactly(u64::from(n))?;
    file.end()?;
    Ok(labels.into_iter().map(u32::from).collect())
}

fn header<const N: usize>(file: &mut DataFile<'_>, path: &Path, magic: u32, kind: &str) -> Result<[u32; N], DataError> {
    let found = word(file)?;
    if found != magic {
        return Err(DataError::format(
            path,
            format!("the idx magic number {magic} of {kind}"),
            found,
            "check that images and labels are not exchanged and that the file is idx",
        ));
    }
    let mut size = [0; N];
    for axis in &mut size {
        *axis = word(file)?;
    }
    Ok(size)
}

fn word(file: &mut DataFile<'_>) -> Result<u32, DataError> {
    Ok(file.exactly(4)?.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)))
}

fn to_usize(axis: u32) -> usize {
    // Holds on 32 and 64 bits; elsewhere the product check of `Images::new` refuses the size.
    usize::try_from(axis).unwrap_or(usize::MAX)
}
