//! Weight files: there and back, and every way in which a file can be wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use acclimate_tensor::Device;
use acclimate_train::nn::{BatchNorm, Linear, Sequential};
use acclimate_train::params::Named;
use acclimate_train::{Error, Layer, Params, weights};
use safetensors::tensor::{Dtype, TensorView};

fn params() -> Params {
    Sequential::new().then(Linear::new("fc", 3, 2)).then(BatchNorm::new("bn", 2)).init(&Device::cpu(), 5).unwrap()
}

/// A file in a folder of its own.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// The message of loading these bytes, with the folder cut off.
fn message(bytes: &[u8]) -> String {
    let (_folder, path) = file(bytes);
    let message = weights::load(&path, &params()).unwrap_err().to_string();
    message.replace(&format!("{}", path.display()), "a.safetensors")
}

/// A file whose header is this text.
fn with_header(header: &str, n_data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + n_data, 0);
    bytes
}

#[test]
fn there_and_back() {
    let params = params();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    weights::save(&path, &params).unwrap();
    let other = Sequential::new().then(Linear::new("fc", 3, 2)).then(BatchNorm::new("bn", 2));
    let other = other.init(&Device::cpu(), 6).unwrap();
    assert_ne!(other.hash().unwrap(), params.hash().unwrap());
    let loaded = weights::load(&path, &other).unwrap();
    assert_eq!(loaded.hash().unwrap(), params.hash().unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
    // No padding in the file: 6 + 2 + 2 + 2 parameters and 2 + 2 running statistics.
    let n: usize = weights::read(&path).unwrap().iter().map(|(_, _, values)| values.len()).sum();
    assert_eq!(n, 16);
    assert!(matches!(weights::save(folder.path().join("no/such/folder"), &params), Err(Error::Io { .. })));
}

#[test]
fn halves_widen_and_counters_are_skipped() {
    let f16: Vec<u8> = [0x3c00u16, 0xc000].iter().flat_map(|b| b.to_le_bytes()).collect();
    let bf16: Vec<u8> = [0x3f80u16, 0x4049].iter().flat_map(|b| b.to_le_bytes()).collect();
    let counter = 7i64.to_le_bytes();
    let views = [
        ("a", TensorView::new(Dtype::F16, vec![2], &f16).unwrap()),
        ("b", TensorView::new(Dtype::BF16, vec![2], &bf16).unwrap()),
        ("bn.num_batches_tracked", TensorView::new(Dtype::I64, vec![], &counter).unwrap()),
    ];
    let (_folder, path) = file(&safetensors::serialize(views, None).unwrap());
    let mut named = weights::read(&path).unwrap();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(named, [("a".into(), vec![2], vec![1.0, -2.0]), ("b".into(), vec![2], vec![1.0, 3.140625])]);
}

#[test]
fn wrong_names_and_shapes() {
    let store = |change: &dyn Fn(&mut Vec<Named>)| {
        let params = params();
        let mut named = params.to_named().unwrap();
        named.extend(params.buffers_to_named().unwrap());
        change(&mut named);
        weights::to_bytes(&Params::from_named(&Device::cpu(), named).unwrap()).unwrap()
    };
    assert_eq!(
        message(&store(&|n| n[0].0 = "fc.wieght".into())),
        "unknown parameter `fc.wieght`; did you mean `fc.weight`?"
    );
    let missing = message(&store(&|n| drop(n.remove(5))));
    assert_eq!(missing, "buffer `bn.running_var` is missing in a.safetensors; expected shape [2]");
    let shape = message(&store(&|n| n[0].1 = vec![3, 2]));
    assert!(shape.starts_with("`fc.weight`: expected shape [2, 3], found [3, 2]"), "{shape}");
}

#[test]
fn files_that_are_wrong() {
    let missing = weights::read("no/such/file.safetensors").unwrap_err();
    assert!(matches!(missing, Error::Io { .. }) && missing.to_string().contains("no/such/file.safetensors"));
    assert!(message(b"").contains("found 0 bytes"));
    assert!(message(b"PK\x03\x04 this is a zip archive or so").contains("no safetensors file, or truncated"));
    let long = message(&u64::MAX.to_le_bytes());
    assert!(long.contains("header of 18446744073709551615 bytes, found a file of 8 bytes"), "{long}");
    assert!(message(&with_header("not json", 8)).contains("a safetensors header, which is JSON"));
    assert!(message(&with_header("[1, 2]", 8)).contains("a safetensors header, which is JSON"));
    let whole = weights::to_bytes(&params()).unwrap();
    for cut in [whole.len() - 1, whole.len() - 40] {
        let truncated = message(&whole[..cut]);
        assert!(truncated.contains("truncated"), "{truncated}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(message(&longer).contains("data up to the end of the file"));
    let two = |a: &str, b: &str| format!(r#"{{"a":{{"dtype":"F32",{a}}},"b":{{"dtype":"F32",{b}}}}}"#);
    let overlap = two(r#""shape":[2],"data_offsets":[0,8]"#, r#""shape":[2],"data_offsets":[4,12]"#);
    assert!(message(&with_header(&overlap, 12)).contains("overlaps another"));
    let overflow = two(
        r#""shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]"#,
        r#""shape":[1],"data_offsets":[8,12]"#,
    );
    assert!(message(&with_header(&overflow, 12)).contains("a shape that overflows"));
    let small = two(r#""shape":[3],"data_offsets":[0,8]"#, r#""shape":[1],"data_offsets":[8,12]"#);
    assert!(message(&with_header(&small, 12)).contains("data of the size of its shape"));
    let far = two(
        r#""shape":[2305843009213693951],"data_offsets":[0,9223372036854775804]"#,
        r#""shape":[1],"data_offsets":[9223372036854775804,9223372036854775808]"#,
    );
    assert!(message(&with_header(&far, 12)).contains("the file is truncated"));
    let odd = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":"none"}}"#;
    assert!(message(&with_header(odd, 4)).contains("two data offsets for `a`"));
    let integer = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    assert!(message(&with_header(integer, 8)).contains("`a` of type I64"));
}

/// Random damage gives an error or a value, never a panic.
#[test]
fn damage_never_panics() {
    let whole = weights::to_bytes(&params()).unwrap();
    let path = PathBuf::from("damaged");
    for at in 0..whole.len().min(400) {
        for bit in [0, 3, 7] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let _ = weights::parse(&bytes, &path);
        }
        let _ = weights::parse(&whole[..at], &path);
    }
}
