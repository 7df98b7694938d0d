//! The repository keeps its own rules, and each rule catches what it is there for.

use acclimate_ci::packages::Metadata;
use acclimate_ci::repository::{self, File};
use acclimate_ci::rules::{self, CODE, MOST_BYTES, MOST_LINES, TEXT};
use acclimate_ci::{Finding, rust::Source};
use anyhow::Result;

#[track_caller]
fn expect_none(findings: &[Finding]) {
    let list: Vec<String> = findings.iter().map(|finding| format!("  {finding}")).collect();
    assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
}

#[test]
fn code_keeps_the_rules() -> Result<()> {
    expect_none(&rules::check_code(&repository::files(&repository::root())?)?);
    Ok(())
}

#[test]
fn text_keeps_the_rules() -> Result<()> {
    expect_none(&rules::check_text(&repository::files(&repository::root())?));
    Ok(())
}

#[test]
fn files_keep_the_rules() -> Result<()> {
    expect_none(&rules::check_files(&repository::files(&repository::root())?));
    Ok(())
}

#[test]
fn packages_form_a_line() -> Result<()> {
    expect_none(&Metadata::read(&repository::root())?.check_edges());
    Ok(())
}

#[test]
fn licenses_are_permissive() -> Result<()> {
    expect_none(&Metadata::read(&repository::root())?.check_licenses());
    Ok(())
}

#[test]
fn every_dependency_is_used() -> Result<()> {
    let root = repository::root();
    expect_none(&Metadata::read(&root)?.check_unused(&root, &repository::files(&root)?)?);
    Ok(())
}

#[test]
fn every_feature_is_built_alone() -> Result<()> {
    let root = repository::root();
    expect_none(&Metadata::read(&root)?.check_features(&std::fs::read_to_string(root.join("ci/steps"))?));
    Ok(())
}

// Below: the rules have teeth.

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), bytes: text.len() as u64, executable: false, text: Some(text.into()) }
}

#[track_caller]
fn code_findings(path: &str, text: &str) -> Vec<(usize, String)> {
    let found = rules::check_code(&[file(path, text)]).expect("the text is Rust");
    found.into_iter().map(|finding| (finding.line, finding.what)).collect()
}

#[test]
fn each_code_rule_finds_its_tokens_and_nothing_in_comments_or_strings() {
    for rule in CODE {
        let tokens = rule.tokens.concat();
        let path = "crates/infer/src/somewhere.rs";
        let statement = if tokens.starts_with('.') { format!("x{tokens}") } else { format!("{tokens} {{}}") };
        let found = code_findings(path, &format!("//! A file.\n\nfn f() {{\n    {statement};\n}}\n"));
        assert_eq!(found, [(4, format!("`{tokens}`"))]);

        let quiet = format!("//! {tokens}\n/// {tokens}\nfn f() {{ /* {tokens} */ g(r#\"{tokens}\"#) }} // {tokens}\n");
        assert_eq!(code_findings(path, &quiet), []);
    }
}

#[test]
fn tests_may_panic_but_not_be_unsafe() {
    let text = "//! A file.\n#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap(); panic!(); unsafe {} }\n}\nfn g() { y.unwrap() }\n";
    let expected = [(4, "`unsafe`".to_owned()), (6, "`.unwrap()`".to_owned())];
    assert_eq!(code_findings("crates/train/src/loss/mod.rs", text), expected);
    assert_eq!(code_findings("crates/train/tests/loss.rs", text), expected[..1]);
    // Shipped under a feature, so no test.
    let feature = "//! A file.\n#[cfg(any(test, feature = \"testkit\"))]\nfn f() { x.unwrap() }\n";
    assert_eq!(code_findings("crates/train/src/loss/mod.rs", feature).len(), 1);
}

#[test]
fn a_test_module_in_its_own_file_is_a_test() {
    let parent = file("crates/train/src/loss/mod.rs", "//! A file.\n#[cfg(test)]\nmod tests;\nmod other;\n");
    let body = "//! A file.\nfn f() { x.unwrap() }\n";
    let check = |path: &str| rules::check_code(&[parent.clone(), file(path, body)]).expect("Rust").len();
    assert_eq!(check("crates/train/src/loss/tests.rs"), 0);
    assert_eq!(check("crates/train/src/loss/tests/more.rs"), 0);
    assert_eq!(check("crates/train/src/loss/other.rs"), 1);
}

#[test]
fn one_folder_may_name_the_graphics_library() {
    let text = "//! A file.\nuse wgpu::Device;\n";
    assert_eq!(code_findings("crates/tensor/src/engine/gpu/mod.rs", text), []);
    assert_eq!(code_findings("crates/tensor/src/engine/mod.rs", text), [(2, "`wgpu`".to_owned())]);
}

#[test]
fn text_rules_find_paths_and_nothing_that_only_looks_like_one() {
    for rule in TEXT {
        let path = rule.path;
        for line in [format!("see {path}/x"), path.to_owned(), format!("(`{path}`)"), format!("out={path}/y")] {
            assert_eq!(rules::check_text(&[file("README.md", &format!("one\n{line}\n"))])[0].line, 2, "{line}");
        }
        for line in [format!("{path}er/x"), format!("a{path}/x"), format!("a{path}"), format!("${{a}}{path}")] {
            assert_eq!(rules::check_text(&[file("README.md", &line)]), [], "{line}");
        }
    }
}

#[test]
fn file_rules_find_length_size_first_line_and_mode() {
    let find = |file: File| rules::check_files(&[file]).len();
    let long = |n| format!("//! A file.\n{}", "\n".repeat(n - 1));
    assert_eq!(find(file("a.rs", &long(MOST_LINES))), 0);
    assert_eq!(find(file("a.rs", &long(MOST_LINES + 1))), 1);
    assert_eq!(find(file("a.rs", "// A file.\n")), 1);
    assert_eq!(find(File { bytes: MOST_BYTES, text: None, ..file("a.bin", "") }), 0);
    assert_eq!(find(File { bytes: MOST_BYTES + 1, text: None, ..file("a.bin", "") }), 1);
    for (path, text) in [("a", "#!/bin/sh\n"), ("a.sh", "\n"), ("ci/test", "\n"), (".ci/run", "\n")] {
        assert_eq!(find(file(path, text)), 1, "{path}");
        assert_eq!(find(File { executable: true, ..file(path, text) }), 0, "{path}");
    }
}

/// What cargo would say of one package of ours, `package`, and one of others.
fn metadata(package: &str, dependency: &str, kind: &str, license: &str) -> Metadata {
    let manifest = repository::root().join("crates/tensor/Cargo.toml");
    let json = serde_json::json!({
        "workspace_members": ["ours"],
        "packages": [
            { "name": package, "version": "1.0.0", "id": "ours", "license": "MIT", "targets": [],
              "dependencies": [{ "name": dependency, "rename": null, "kind": if kind.is_empty() { None } else { Some(kind) } }],
              "features": { "default": [], "extra": [] }, "manifest_path": manifest },
            { "name": "other", "version": "1.0.0", "id": "other", "license": license, "targets": [], "dependencies": [],
              "features": {}, "manifest_path": "Cargo.toml" },
        ],
    });
    Metadata::parse(json.to_string().as_bytes()).expect("the JSON is complete")
}

#[test]
fn edges_against_the_line_are_found() {
    let edge = |package, dependency| metadata(package, dependency, "", "MIT").check_edges().len();
    assert_eq!(edge("acclimate-train", "acclimate-kernels"), 0);
    assert_eq!(edge("acclimate-tensor", "acclimate-kernels"), 1);
    assert_eq!(edge("acclimate-train", "acclimate-shaders"), 1);
    assert_eq!(edge("acclimate-tensor", "wgpu"), 0);
    assert_eq!(edge("acclimate-infer", "wgpu"), 1);
    assert_eq!(edge("newcomer", "log"), 1);
}

#[test]
fn licenses_are_read_as_expressions() {
    let bad = |license| metadata("acclimate-ci", "log", "", license).check_licenses().len();
    for license in ["MIT", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "GPL-3.0-only OR MIT"] {
        assert_eq!(bad(license), 0, "{license}");
    }
    for license in ["GPL-3.0-only", "MIT AND LGPL-2.1-only", "MPL-2.0", "no such license"] {
        assert_eq!(bad(license), 1, "{license}");
    }
}

#[test]
fn unused_dependencies_are_found() -> Result<()> {
    let source = [
        file("crates/tensor/src/lib.rs", "//! Says half.\nuse log::info;\n"),
        file("crates/tensor/tests/a.rs", "//! A test.\nuse proptest::prelude::*;\n"),
        file("crates/tensor/build.rs", "//! Builds.\nfn main() { naga::check() }\n"),
        file("crates/kernels/src/lib.rs", "//! Of another package.\nuse rayon::join;\n"),
    ];
    let count = |dependency, kind| -> Result<usize> {
        let metadata = metadata("acclimate-tensor", dependency, kind, "MIT");
        Ok(metadata.check_unused(&repository::root(), &source)?.len())
    };
    for (dependency, kind) in [("log", ""), ("proptest", "dev"), ("naga", "build")] {
        assert_eq!(count(dependency, kind)?, 0, "{kind} {dependency}");
    }
    for (dependency, kind) in [("half", ""), ("proptest", ""), ("rayon", ""), ("rayon", "dev"), ("proptest", "build")] {
        assert_eq!(count(dependency, kind)?, 1, "{kind} {dependency}");
    }
    Ok(())
}

#[test]
fn features_without_a_step_are_found() {
    let metadata = metadata("acclimate-tensor", "log", "", "MIT");
    let plain = "x -p acclimate-tensor --no-default-features -- -D warnings";
    let extra = "x -p acclimate-tensor --no-default-features --features extra -- -D warnings";
    assert_eq!(metadata.check_features("").len(), 2);
    assert_eq!(metadata.check_features(plain).len(), 1);
    assert_eq!(metadata.check_features(&format!("{plain}\n{extra}")), []);
}

#[test]
fn a_source_file_that_is_not_rust_is_an_error() {
    assert!(Source::parse("fn f( {").is_err());
}
