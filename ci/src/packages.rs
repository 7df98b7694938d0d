//! Rules about packages: who may use whom, licenses, dependencies that nobody uses, features that nobody builds alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::Finding;
use crate::repository::File;
use crate::rust::Source;

/// What each of our packages may use of our packages: the straight line of the architecture.
pub const LINE: &[(&str, &[&str])] = &[
    ("acclimate-shaders", &[]),
    ("acclimate-tensor", &["acclimate-shaders"]),
    ("acclimate-kernels", &["acclimate-tensor", "acclimate-shaders"]),
    ("acclimate-train", &["acclimate-kernels", "acclimate-tensor"]),
    ("acclimate-infer", &["acclimate-train", "acclimate-kernels", "acclimate-tensor"]),
    ("acclimate", &["acclimate-infer", "acclimate-train", "acclimate-kernels", "acclimate-tensor"]),
    (
        "acclimate-benches",
        &[
            "acclimate",
            "acclimate-infer",
            "acclimate-train",
            "acclimate-kernels",
            "acclimate-tensor",
            "acclimate-shaders",
        ],
    ),
    ("acclimate-ci", &[]),
];

/// Packages of others that only some of ours may depend on.
pub const RESERVED: &[(&str, &[&str])] = &[("wgpu", &["acclimate-tensor"])];

/// Licenses that ask for no more than their own text. A package may offer others, as long as these are enough.
pub const LICENSES: &[&str] =
    &["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "CC0-1.0", "BSL-1.0", "0BSD"];

/// What `cargo metadata` says.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    id: String,
    license: Option<String>,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
    features: std::collections::BTreeMap<String, Vec<String>>,
    manifest_path: String,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: String,
}

impl Metadata {
    /// Ask cargo about the workspace and everything it depends on.
    ///
    /// # Errors
    /// If cargo fails, for example because `Cargo.lock` is out of date.
    pub fn read(root: &Path) -> Result<Self> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root)
            .output()
            .context("could not run cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&output.stdout)
    }

    /// Read the JSON that `cargo metadata` prints.
    ///
    /// # Errors
    /// If it is not what cargo prints.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).context("cargo metadata printed something else than expected")
    }

    fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Check that our packages use each other along [`LINE`] only, and others' as in [`RESERVED`].
    pub fn check_edges(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for package in self.ours() {
            let mut find = |what: String, remedy: String| findings.push(Finding::new(package.file(), 0, what, remedy));
            let Some((_, may_use)) = LINE.iter().find(|(name, _)| *name == package.name) else {
                find(
                    format!("{} has no place in the line", package.name),
                    "add it to LINE in ci/src/packages.rs".into(),
                );
                continue;
            };
            for used in package.dependencies.iter().map(|dependency| dependency.name.as_str()) {
                let is_ours = LINE.iter().any(|(name, _)| *name == used);
                if is_ours && used != package.name && !may_use.contains(&used) {
                    let allowed = if may_use.is_empty() { "none of ours".to_owned() } else { may_use.join(", ") };
                    find(format!("{} uses {used}", package.name), format!("it may use {allowed}: move the code"));
                }
                if let Some((_, users)) = RESERVED.iter().find(|(name, _)| *name == used)
                    && !users.contains(&package.name.as_str())
                {
                    find(format!("{} uses {used}", package.name), format!("only {} may", users.join(", ")));
                }
            }
        }
        findings
    }

    /// Check that everything we depend on, on any system, can be had under the [`LICENSES`].
    pub fn check_licenses(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for package in &self.packages {
            let name = format!("{} {}", package.name, package.version);
            let remedy = "use another package, or add the license to LICENSES in ci/src/packages.rs after reading it";
            let what = match package.license.as_deref().map(|text| (text, is_allowed(text))) {
                Some((_, Ok(true))) => continue,
                Some((license, Ok(false))) => format!("{name} has the license `{license}`"),
                Some((license, Err(error))) => format!("the license `{license}` of {name} cannot be read: {error}"),
                None => format!("{name} names no license"),
            };
            findings.push(Finding::new("Cargo.lock", 0, what, remedy));
        }
        findings
    }

    /// Check that the code of each of our packages names each dependency that its manifest declares.
    ///
    /// # Errors
    /// If a source file cannot be read or is not Rust.
    pub fn check_unused(&self, root: &Path, files: &[File]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for package in self.ours() {
            let folder = package.folder(root)?;
            let mut seen = BTreeSet::new(); // a dependency on several systems is declared several times
            let mut shipped = Vec::new(); // what a dependency is for
            let mut built_by = Vec::new(); // what a build dependency is for
            let mut all = String::new(); // what a dev-dependency is for: tests, examples, and examples in documents
            for file in files.iter().filter(|file| file.path.starts_with(&folder) && file.path.ends_with(".rs")) {
                let Some(text) = &file.text else { continue };
                all.push_str(text);
                let source = Source::parse(text).with_context(|| file.path.clone())?;
                let inside = &file.path[folder.len()..];
                if inside == "build.rs" || inside.starts_with("build/") {
                    built_by.push(source);
                } else if !inside.starts_with("tests/") {
                    shipped.push(source);
                }
            }
            for target in package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "example")) {
                all.push_str(&fs::read_to_string(&target.src_path).with_context(|| target.src_path.clone())?);
                // An example of several files keeps the others in the folder of its name.
                let parts = format!("examples/{}/", target.name);
                all.extend(
                    files.iter().filter(|file| file.path.starts_with(&parts)).filter_map(|file| file.text.as_deref()),
                );
            }
            for dependency in &package.dependencies {
                let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
                let used = match dependency.kind.as_deref() {
                    None => shipped.iter().any(|source| source.names(&name)),
                    Some("build") => built_by.iter().any(|source| source.names(&name)),
                    // A package may depend on itself to turn a feature on for its tests.
                    Some(_) => dependency.name == package.name || all.contains(&name),
                };
                if !used && seen.insert((&dependency.name, &dependency.kind)) {
                    let kind = dependency.kind.as_ref().map(|kind| format!("{kind}-")).unwrap_or_default();
                    let what = format!("{} never names its {kind}dependency {}", package.name, dependency.name);
                    findings.push(Finding::new(package.file(), 0, what, "remove it from the manifest"));
                }
            }
        }
        Ok(findings)
    }

    /// Check that `ci/steps` builds each feature of each of our libraries alone.
    pub fn check_features(&self, steps: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for package in self.ours() {
            for feature in package.features.keys() {
                let alone = match feature.as_str() {
                    "default" => format!("-p {} --no-default-features --", package.name),
                    other => format!("-p {} --no-default-features --features {other} ", package.name),
                };
                if !steps.contains(&alone) {
                    let what = format!("no step builds the feature `{feature}` of {} alone", package.name);
                    let remedy = format!("add a step with `cargo clippy … {alone}`");
                    findings.push(Finding::new("ci/steps", 0, what, remedy));
                }
            }
        }
        findings
    }
}

impl Package {
    /// The manifest, as our messages name it.
    fn file(&self) -> String {
        format!("Cargo.toml of {}", self.name)
    }

    /// The folder of the package, relative to the root, with a slash at its end.
    fn folder(&self, root: &Path) -> Result<String> {
        let folder = Path::new(&self.manifest_path).parent().context("a manifest lies in a folder")?;
        let inside =
            folder.strip_prefix(root).or_else(|_| folder.strip_prefix(root.canonicalize()?).context("outside"))?;
        Ok(format!("{}/", inside.display()).replace('\\', "/"))
    }
}

/// Whether a license expression can be met with [`LICENSES`] alone.
fn is_allowed(text: &str) -> Result<bool, spdx::ParseError> {
    // Old packages write `MIT/Apache-2.0`.
    let expression = spdx::Expression::parse_mode(text, spdx::ParseMode::LAX)?;
    Ok(expression.evaluate(|requirement| requirement.license.id().is_some_and(|id| LICENSES.contains(&id.name))))
}
