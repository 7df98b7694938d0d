//! The files of the repository, as git knows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file that is tracked, or would be by `git add`.
#[derive(Clone, Debug)]
pub struct File {
    /// Path relative to the root, with forward slashes.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// The content; `None` if it is not UTF-8 text.
    pub text: Option<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Every file that git tracks or would add, and that exists, sorted by path.
///
/// # Errors
/// If git cannot list the files, or one of them cannot be read.
pub fn files(root: &Path) -> Result<Vec<File>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("could not run git; the rules are about the files that git tracks")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let mut files = Vec::new();
    for path in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let absolute = root.join(path);
        let Ok(metadata) = fs::symlink_metadata(&absolute) else { continue }; // deleted, not yet committed
        if !metadata.is_file() {
            continue;
        }
        let content = fs::read(&absolute).with_context(|| format!("could not read {path}"))?;
        files.push(File {
            path: path.to_owned(),
            bytes: metadata.len(),
            executable: is_executable(&metadata),
            text: String::from_utf8(content).ok().filter(|text| !text.contains('\0')),
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

/// Other systems keep no such bit in their files.
#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    true
}
