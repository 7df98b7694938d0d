//! Every primitive and every op on the CPU engine against the f64 oracle; the list of ops against the folder.

use std::collections::BTreeSet;

use acclimate_kernels::registry;
use acclimate_kernels::testkit::{all_cases, check_all, conforms, rows_are_left_out};
use acclimate_tensor::Device;

#[test]
fn cpu_conforms() {
    let n = check_all(&all_cases(), &Device::cpu(), conforms).unwrap();
    assert!(n > 0);
}

#[test]
fn rows_that_nobody_reads_change_nothing() {
    check_all(&all_cases(), &Device::cpu(), rows_are_left_out).unwrap();
}

#[test]
fn null_names_of_cases_differ() {
    let mut seen = BTreeSet::new();
    for (op, case) in all_cases() {
        assert!(seen.insert((op, case.name.clone())), "{op}: two cases are called `{}`", case.name);
    }
}

#[test]
fn null_every_file_of_ops_is_in_the_list() {
    let folder = |name| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let files: BTreeSet<String> = ["src/ops", "src/step"]
        .into_iter()
        .flat_map(|name| std::fs::read_dir(folder(name)).unwrap())
        .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "mod")
        .collect();
    let list: BTreeSet<String> = registry::ALL.iter().map(|e| e.name.to_owned()).collect();
    assert_eq!(files, list);
    assert!(registry::find("matmul").is_some() && registry::find("no such op").is_none());
}

#[test]
fn null_every_op_has_cases_and_rejects() {
    for entry in registry::ALL {
        assert!(!(entry.cases)().is_empty(), "{} has no cases", entry.name);
        assert!(!(entry.rejects)().is_empty(), "{} refuses nothing", entry.name);
    }
}
