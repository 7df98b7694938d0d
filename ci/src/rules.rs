//! Rules about code and text, as tables.

use anyhow::{Context, Result};

use crate::Finding;
use crate::repository::File;
use crate::rust::Source;

/// Something that code may not say, outside some folders.
pub struct CodeRule {
    /// The tokens, one after the other.
    pub tokens: &'static [&'static str],
    /// Where it holds: beginnings of paths.
    pub places: &'static [&'static str],
    /// Where it does not: beginnings of paths.
    pub except: &'static [&'static str],
    /// Whether it holds in tests as well: in folders named `tests`, and under `#[cfg(test)]`.
    pub tests_too: bool,
    /// What to do instead.
    pub remedy: &'static str,
}

/// The code that is shipped.
const LIBRARIES: &[&str] = &["shaders/src/", "crates/"];
const EVERYWHERE: &[&str] = &[""];
const NO_PANIC: &str = "return an error that names what was expected and what was found";

/// Every rule about code.
pub const CODE: &[CodeRule] = &[
    CodeRule {
        tokens: &["wgpu"],
        places: EVERYWHERE,
        except: &["crates/tensor/src/engine/gpu/", "ci/", "benches/peers/"],
        tests_too: true,
        remedy: "only crates/tensor/src/engine/gpu/ may name it: go through `Device`, or add what is missing there",
    },
    CodeRule {
        tokens: &["unsafe"],
        places: EVERYWHERE,
        // And a tool that asks drivers about shaders, which nobody ships.
        except: &["crates/tensor/src/engine/", "benches/compilers/"],
        tests_too: true,
        remedy: "use a safe function, or wrap the call in one inside crates/tensor/src/engine/, with a SAFETY note",
    },
    CodeRule { tokens: &[".", "unwrap", "(", ")"], places: LIBRARIES, except: &[], tests_too: false, remedy: NO_PANIC },
    CodeRule { tokens: &["panic", "!"], places: LIBRARIES, except: &[], tests_too: false, remedy: NO_PANIC },
    CodeRule { tokens: &["todo", "!"], places: LIBRARIES, except: &[], tests_too: false, remedy: "write it" },
    CodeRule { tokens: &["unimplemented", "!"], places: LIBRARIES, except: &[], tests_too: false, remedy: NO_PANIC },
    CodeRule {
        tokens: &["dbg", "!"],
        places: EVERYWHERE,
        except: &[],
        tests_too: true,
        remedy: "remove it, or log it",
    },
];

/// A word that no text file may hold, outside some folders.
pub struct TextRule {
    /// The beginning of a path, as it would stand after a space, a quote or a bracket.
    pub path: &'static str,
    /// Where it is allowed: beginnings of paths.
    pub except: &'static [&'static str],
    /// What to do instead.
    pub remedy: &'static str,
}

const MACHINE: &str = "a path of one machine is wrong on all others: take it from an argument or a temporary folder";

/// Every rule about text: folders that exist on somebody's machine only. This file has to name them.
pub const TEXT: &[TextRule] = &[
    TextRule { path: "/tmp", except: &["ci/src/rules.rs"], remedy: MACHINE },
    TextRule { path: "/root", except: &["ci/src/rules.rs"], remedy: MACHINE },
    TextRule { path: "/work", except: &["ci/src/rules.rs"], remedy: MACHINE },
    TextRule { path: "/home", except: &["ci/src/rules.rs"], remedy: MACHINE },
    TextRule {
        path: "../shared",
        except: &["ci/", "shaders/"], // the shaders have a folder of that name
        remedy: "cite the paper, or read the folder's name from ACCLIMATE_DATA",
    },
];

/// No source file is longer, in lines.
pub const MOST_LINES: usize = 600;
/// No tracked file is larger, in bytes.
pub const MOST_BYTES: u64 = 5_000_000;
/// The files with code, whose length is limited.
const CODE_ENDINGS: &[&str] = &[".rs", ".wgsl", ".py", ".sh"];
/// Scripts that are called by their path, beside those that begin with `#!` or end in `.sh`.
const SCRIPTS: &[&str] = &["ci/test", "ci/lint", "ci/tier", ".ci/run"];

fn starts_with_any(path: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| path.starts_with(beginning))
}

/// Check the rules about code in all Rust files.
///
/// # Errors
/// If a file is not Rust.
pub fn check_code(files: &[File]) -> Result<Vec<Finding>> {
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let text = file.text.as_deref().with_context(|| format!("{} is not UTF-8", file.path))?;
        sources.push((file.path.as_str(), Source::parse(text).with_context(|| file.path.clone())?));
    }
    let test_files: Vec<String> = sources
        .iter()
        .flat_map(|(path, source)| source.test_modules.iter().flat_map(|name| module_files(path, name)))
        .collect();

    let mut findings = Vec::new();
    for (path, source) in &sources {
        let is_test_file = path.contains("/tests/") || test_files.iter().any(|test| path.starts_with(test.as_str()));
        for rule in CODE {
            let applies = starts_with_any(path, rule.places) && !starts_with_any(path, rule.except);
            if !applies || (is_test_file && !rule.tests_too) {
                continue;
            }
            for line in source.find(rule.tokens, rule.tests_too) {
                findings.push(Finding::new(*path, line, format!("`{}`", rule.tokens.concat()), rule.remedy));
            }
        }
    }
    Ok(findings)
}

/// Where the module `name`, declared in the file `parent`, may be: its file, and the folder of its modules.
fn module_files(parent: &str, name: &str) -> [String; 2] {
    let folder = match parent.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
        _ => parent.trim_end_matches(".rs"),
    };
    [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]
}

/// Check the rules about text in all text files.
pub fn check_text(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in files.iter().filter_map(|file| Some((file, file.text.as_deref()?))) {
        for rule in TEXT.iter().filter(|rule| !starts_with_any(&file.path, rule.except)) {
            for (i, line) in text.lines().enumerate().filter(|(_, line)| mentions_path(line, rule.path)) {
                let what = format!("`{}` in `{}`", rule.path, line.trim());
                findings.push(Finding::new(&file.path, i + 1, what, rule.remedy));
            }
        }
    }
    findings
}

/// Whether the line names this folder, and not one that only ends or begins like it.
fn mentions_path(line: &str, path: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | ')');
    line.match_indices(path).any(|(at, _)| {
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !line[..at].ends_with(part_of_name) && !line[at + path.len()..].starts_with(goes_on)
    })
}

/// Check what is asked of whole files: a first line that says what a Rust file is, length, size, the right to run.
pub fn check_files(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let mut find = |what: String, remedy: &str| findings.push(Finding::new(&file.path, 0, what, remedy));
        if file.bytes > MOST_BYTES {
            find(format!("{} bytes, at most {MOST_BYTES} are allowed", file.bytes), "keep large data outside");
        }
        let Some(text) = &file.text else { continue };
        if file.path.ends_with(".rs") && !text.starts_with("//!") {
            find("does not begin with `//!`".to_owned(), "say in the first line what the file is");
        }
        let n_lines = text.lines().count();
        if CODE_ENDINGS.iter().any(|ending| file.path.ends_with(ending)) && n_lines > MOST_LINES {
            find(format!("{n_lines} lines, at most {MOST_LINES} are allowed"), "split it: it holds more than one idea");
        }
        let is_script = text.starts_with("#!/") || file.path.ends_with(".sh") || SCRIPTS.contains(&file.path.as_str());
        if is_script && !file.executable {
            find(
                "a script that cannot be executed".to_owned(),
                "run `git update-index --chmod=+x` and `chmod +x` on it",
            );
        }
    }
    findings
}
