//! Data files, honest and lying: what the readers make of them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::{Path, PathBuf};

use acclimate_train::data::{DataError, Images, Table, cifar, gtsrb, idx};
use flate2::{Compression, write::GzEncoder};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

/// A folder for the test's own files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn idx_bytes(words: &[u32], body: &[u8]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).chain(body.iter().copied()).collect()
}

fn class_counts(images: &Images) -> Vec<usize> {
    let mut counts = vec![0; images.n_classes() as usize];
    images.labels().iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

#[test]
fn fashion8k_is_what_it_says() {
    let (train, test) = idx::fashion8k(data("fashion8k")).unwrap();
    assert_eq!((train.len(), test.len()), (8_000, 2_000));
    assert_eq!((train.channels(), train.height(), train.width(), train.n_classes()), (1, 28, 28, 10));
    assert_eq!((class_counts(&train), class_counts(&test)), (vec![800; 10], vec![200; 10]));
    let stats = train.channel_stats();
    // The published moments of this subset have four digits.
    assert!((stats.mean[0] - 0.2864).abs() < 5e-5 && (stats.std[0] - 0.3537).abs() < 5e-5, "{stats:?}");
    // The first image of Fashion-MNIST is an ankle boot.
    assert_eq!(train.labels()[0], 9);
    assert_eq!(test.first_per_class(50).len(), 500);
}

#[test]
fn idx_files_are_read_plain_and_packed() {
    let files = Files::new();
    let (images, labels) = (idx_bytes(&[2051, 2, 1, 2], &[1, 2, 3, 4]), idx_bytes(&[2049, 2], &[0, 2]));
    let plain = idx::read(files.put("i", &images), files.put("l", &labels), 3).unwrap();
    let packed = idx::read(files.put("i.gz", &gzip(&images)), files.put("l.gz", &gzip(&labels)), 3).unwrap();
    assert_eq!(plain, packed);
    assert_eq!((plain.pixels(), plain.labels()), (&[1, 2, 3, 4][..], &[0, 2][..]));
}

/// Reads a broken images file beside a good labels file of 2.
fn read_images(bytes: &[u8]) -> DataError {
    let files = Files::new();
    let labels = files.put("labels", &idx_bytes(&[2049, 2], &[0, 1]));
    idx::read(files.put("images", bytes), labels, 2).unwrap_err()
}

#[test]
fn lying_idx_images_are_refused() {
    let good = idx_bytes(&[2051, 2, 1, 2], &[1, 2, 3, 4]);
    for cut in 0..good.len() {
        let error = read_images(&good[..cut]);
        assert!(matches!(error, DataError::Truncated { .. }), "cut at {cut}: {error}");
        let packed = read_images(&gzip(&good[..cut]));
        assert!(matches!(packed, DataError::Truncated { .. }), "packed, cut at {cut}: {packed}");
    }
    // A compressed stream that is cut itself.
    let packed = gzip(&good);
    for cut in 4..packed.len() {
        assert!(read_images(&packed[..cut]).is_truncated(), "cut at {cut}");
    }
    let error = read_images(&[good.as_slice(), &[9]].concat());
    assert!(matches!(error, DataError::TooLong { expected_bytes: 20, .. }), "{error}");
    let error = read_images(&idx_bytes(&[2049, 2], &[0, 1]));
    assert!(matches!(error, DataError::Format { .. }), "{error}");
    assert!(error.to_string().contains("2051") && error.to_string().contains("2049"), "{error}");
    let error = read_images(&idx_bytes(&[2051, 2, 0, 2], &[]));
    assert!(matches!(error, DataError::Format { .. }), "{error}");
}

/// Sizes that pass 64 bits, or that the file cannot hold, are refused before anything is allocated.
#[test]
fn huge_declared_sizes_are_refused() {
    for size in [[u32::MAX; 3], [u32::MAX, 1, 1], [1 << 20, 1 << 10, 1 << 10]] {
        let bytes = idx_bytes(&[2051, size[0], size[1], size[2]], &[0; 64]);
        for error in [read_images(&bytes), read_images(&gzip(&bytes))] {
            assert!(matches!(error, DataError::Truncated { .. }), "{size:?}: {error}");
        }
    }
}

#[test]
fn wrong_labels_are_refused() {
    let files = Files::new();
    let images = files.put("images", &idx_bytes(&[2051, 2, 1, 1], &[1, 2]));
    let read = |labels: Vec<u8>| idx::read(&images, files.put("labels", &labels), 2).unwrap_err();
    let error = read(idx_bytes(&[2049, 2], &[0, 2]));
    assert!(matches!(error, DataError::Label { index: 1, found: 2, n_classes: 2, .. }), "{error}");
    assert!(error.to_string().contains("labels"), "names the labels file: {error}");
    let error = read(idx_bytes(&[2049, 3], &[0, 1, 1]));
    assert!(matches!(error, DataError::Format { .. }), "{error}");
    let error = read(idx_bytes(&[2049, 2], &[0]));
    assert!(matches!(error, DataError::Truncated { expected_bytes: 10, found_bytes: 9, .. }), "{error}");
    let error = idx::read(&images, files.0.path().join("absent"), 2).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }) && error.to_string().contains("absent"), "{error}");
}

fn record(label: u8) -> Vec<u8> {
    let mut bytes = vec![label];
    bytes.extend((0..3072).map(|i| (i % 251) as u8));
    bytes
}

#[test]
fn cifar_records_are_read_plain_and_packed() {
    let files = Files::new();
    let bytes = [record(3), record(9)].concat();
    let plain = cifar::cifar10(files.put("a.bin", &bytes)).unwrap();
    assert_eq!(plain, cifar::cifar10(files.put("a.bin.gz", &gzip(&bytes))).unwrap());
    assert_eq!((plain.len(), plain.labels(), plain.image(1)), (2, &[3, 9][..], &record(9)[1..]));
    assert_eq!((plain.channels(), plain.height(), plain.width()), (3, 32, 32));
    // A record of class 31 whose first pixels are 139 and 8 begins like gzip, and is not.
    let mut disguised = record(31);
    disguised[1..3].copy_from_slice(&[139, 8]);
    assert_eq!(cifar::read(files.put("b.bin", &disguised), 43).unwrap().labels(), [31]);
}

#[test]
fn lying_cifar_files_are_refused() {
    let files = Files::new();
    let cut = &[record(3), record(9)].concat()[..4000];
    for bytes in [cut.to_vec(), gzip(cut)] {
        let error = cifar::cifar10(files.put("cut", &bytes)).unwrap_err();
        assert!(matches!(error, DataError::Truncated { expected_bytes: 6146, found_bytes: 4000, .. }), "{error}");
    }
    let packed = gzip(&record(3));
    assert!(cifar::cifar10(files.put("cut.gz", &packed[..packed.len() / 2])).unwrap_err().is_truncated());
    let error = cifar::cifar10(files.put("label", &[record(3), record(10)].concat())).unwrap_err();
    assert!(matches!(error, DataError::Label { index: 1, found: 10, n_classes: 10, .. }), "{error}");
    let error = cifar::cifar10(files.put("empty", &[])).unwrap_err();
    assert!(matches!(error, DataError::Format { .. }), "{error}");
}

/// The real files are not part of the repository: `ACCLIMATE_DATA` names the folder that has them.
#[test]
fn cifar_parts_are_what_they_say() {
    let folder = std::env::var_os("ACCLIMATE_DATA").map(PathBuf::from);
    let expected = [
        ("cifar10_test_first1017.bin", vec![105, 93, 100, 104, 92, 87, 114, 102, 110, 110]),
        ("cifar10_train_first2000.bin.gz", vec![202, 191, 203, 195, 214, 183, 207, 199, 203, 203]),
    ];
    for (name, counts) in expected {
        match folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists()) {
            Some(path) => assert_eq!(class_counts(&cifar::cifar10(path).unwrap()), counts),
            None => println!("skipped: no {name} (set ACCLIMATE_DATA to its folder)"),
        }
    }
}

#[test]
fn sign_files_are_read_and_lying_ones_refused() {
    let files = Files::new();
    let bytes: Vec<u8> = [42, 0, 0, 0, 0, 42].into_iter().flat_map(record).collect();
    let signs = gtsrb::read(files.put("signs.bin.gz", &gzip(&bytes))).unwrap();
    assert_eq!((signs.labels(), signs.n_classes()), (&[42, 0, 0, 0, 0, 42][..], 43));
    assert_eq!(gtsrb::CLASSES.len(), 43);
    let (first, second) = gtsrb::split(&signs, 0.5).unwrap();
    assert_eq!((first.labels(), second.labels()), (&[0, 0, 42, 42][..], &[0, 0][..]));
    assert!(matches!(gtsrb::split(&signs, f64::NAN), Err(DataError::Argument { .. })));
    for cut in [1, 3072, 3074, 7000] {
        let error = gtsrb::read(files.put("cut.bin", &bytes[..cut])).unwrap_err();
        let whole = 3073 * cut.div_ceil(3073) as u64;
        assert!(matches!(error, DataError::Truncated { expected_bytes, .. } if expected_bytes == whole), "{error}");
    }
    let packed = gzip(&bytes);
    assert!(gtsrb::read(files.put("cut.bin.gz", &packed[..packed.len() - 9])).unwrap_err().is_truncated());
    let error = gtsrb::read(files.put("label.bin", &record(43))).unwrap_err();
    assert!(matches!(error, DataError::Label { found: 43, n_classes: 43, .. }), "{error}");
}

#[test]
fn the_real_signs_are_what_they_say() {
    let folder = std::env::var_os("ACCLIMATE_DATA").map(PathBuf::from);
    for (name, n, fewest, most) in
        [("gtsrb32_train_2perTrack.bin.gz", 2613, 14, 150), ("gtsrb32_test_every5th.bin.gz", 2526, 12, 159)]
    {
        match folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists()) {
            Some(path) => {
                let counts = class_counts(&gtsrb::read(path).unwrap());
                assert_eq!(counts.iter().sum::<usize>(), n);
                assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&fewest), Some(&most)));
            }
            None => println!("skipped: no {name} (set ACCLIMATE_DATA to its folder)"),
        }
    }
}

#[test]
fn a_column_of_texts_is_numbered_by_the_alphabet() {
    let path = data("sacramento/sacramento.csv");
    let (kinds, names) = Table::read_categories(&path, "type").unwrap();
    assert_eq!(names, ["Condo", "Multi_Family", "Residential"]);
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!([count(0), count(1), count(2)], [53, 13, 866]);
    let error = Table::read_categories(&path, "typ").unwrap_err();
    assert!(matches!(error, DataError::MissingColumn { .. }), "{error}");
}

#[test]
fn sacramento_is_what_it_says() {
    let table = Table::read(data("sacramento/sacramento.csv"), &["price", "beds", "baths", "sqft"]).unwrap();
    assert_eq!(table.n_rows(), 932);
    let price = table.column("price").unwrap();
    let mean = price.iter().sum::<f64>() / 932.0;
    // Published with one digit.
    assert!((mean - 246_661.6).abs() < 0.05, "{mean}");
    assert!(price.iter().all(|price| (30_000.0..=884_790.0).contains(price)));
    assert_eq!(table.matrix(&["beds", "sqft"]).unwrap()[..4], [2.0, 836.0, 3.0, 1167.0]);
    let (train, test) = table.split(0.8, 0).unwrap();
    assert_eq!((train.n_rows(), test.n_rows()), (746, 186));
}

#[test]
fn standardized_columns() {
    let files = Files::new();
    let path = files.put("t.csv", b"a,city,b\n1,\"x, y\",7\n3,z,7\n5,z,7\n");
    let table = Table::read(&path, &["a", "b"]).unwrap();
    let (standardized, scaling) = table.standardized();
    // Mean 3, population variance 8/3; a constant column becomes 0.
    assert_eq!((scaling.mean[0], scaling.std[1]), (3.0, 1.0));
    assert!((scaling.std[0] - (8.0f64 / 3.0).sqrt()).abs() < 1e-15);
    assert_eq!(standardized.column("b").unwrap(), [0.0, 0.0, 0.0]);
    let column = standardized.column("a").unwrap();
    assert!(column.iter().sum::<f64>().abs() < 1e-15);
    assert!((column.iter().map(|x| x * x).sum::<f64>() / 3.0 - 1.0).abs() < 1e-15);
    assert_eq!(scaling.apply(&table).unwrap(), standardized);
    let other = Table::read(&path, &["b", "a"]).unwrap();
    assert!(matches!(scaling.apply(&other), Err(DataError::Argument { .. })));
}

#[test]
fn wrong_tables_are_refused() {
    let files = Files::new();
    let read = |text: &[u8], name: &str| Table::read(files.put("t.csv", text), &[name]).unwrap_err();
    let error = read(b"beds,baths\n1,2\n", "bed");
    assert!(matches!(&error, DataError::MissingColumn { nearest: Some(n), .. } if n == "beds"), "{error}");
    assert!(error.to_string().contains("did you mean `beds`?"), "{error}");
    for cell in ["", "z95838", "NaN", "inf"] {
        let error = read(format!("zip\n1\n\"{cell}\"\n").as_bytes(), "zip");
        assert!(matches!(&error, DataError::Cell { line: 3, column, .. } if column == "zip"), "`{cell}`: {error}");
    }
    for text in [&b"a,b\n1\n"[..], b"a\n", b"a\n\xff\n"] {
        let error = read(text, "a");
        assert!(matches!(error, DataError::Format { .. }), "{error}");
    }
    assert!(matches!(read(b"", "a"), DataError::MissingColumn { .. }));
}
