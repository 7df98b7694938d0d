//! Assembles, checks and reflects every shader, and writes the table that `src/lib.rs` includes.
//!
//! A shader is a file `<family>/<name>.wgsl`; the folder `shared` holds what is spliced into them.
//! A broken one fails the build with its file, line and column.

#[path = "build/assemble.rs"]
mod assemble;
#[path = "build/halves.rs"]
mod halves;
#[path = "build/lint.rs"]
mod lint;
#[path = "build/reflect.rs"]
mod reflect;
#[path = "build/twin.rs"]
mod twin;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use naga::valid::Capabilities;

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={}", message.replace('\n', " "));
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set; run cargo"));
    let root = variable("CARGO_MANIFEST_DIR")?;
    for folder in ["build.rs", "build", "shared"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let read = |file: &str| fs::read_to_string(root.join(file));
    let (mut table, mut faults) = (String::new(), Vec::new());
    let mut names = BTreeMap::new();
    for (family, name) in shader_files(&root).map_err(|e| format!("cannot list {}: {e}", root.display()))? {
        let file = format!("{family}/{name}.wgsl");
        if let Some(other) = names.insert(name.to_uppercase(), file.clone()) {
            faults.push(format!("shaders/{file}:1:1: `{name}` names two shaders; the other is {other}"));
        }
        let (shader, facts, twin) = match twin::both(&read, &file) {
            Ok(sound) => sound,
            Err(fault) => {
                faults.push(format!("shaders/{fault}"));
                continue;
            }
        };
        let mut variants = Vec::new();
        let mut made = vec![(name.clone(), shader, facts, twin)];
        for of in &twin::VARIANTS {
            match twin::variant(&read, &file, &made[0].1, of) {
                None => {}
                Some(Ok((text, facts))) => {
                    variants.push((of.kind, format!("{name}_{}", of.kind).to_uppercase()));
                    made.push((format!("{name}_{}", of.kind), text, facts, None));
                }
                Some(Err(fault)) => faults.push(format!("shaders/{fault}")),
            }
        }
        for (at, (name, shader, facts, twin)) in made.iter().enumerate() {
            let mut own = if at == 0 { variants.clone() } else { Vec::new() };
            let plain = Capabilities::empty();
            let half = halves::halves(shader).map(|s| s.and_then(|s| reflect::reflect(&s, plain).map(|f| (s, f))));
            match half {
                None => {}
                Some(Ok((text, facts))) => {
                    let half = format!("{name}_half");
                    own.push(("half", half.to_uppercase()));
                    entry(&mut table, (&family, &half), &[], None, &text, &facts);
                    names.insert(half.to_uppercase(), file.clone());
                }
                Some(Err(fault)) => faults.push(format!("shaders/{fault}")),
            }
            entry(&mut table, (&family, name), &own, twin.as_deref(), shader, facts);
            names.insert(name.to_uppercase(), file.clone());
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    let all: String = names.keys().map(|name| format!("&{name}, ")).collect();
    table.push_str(&format!("/// Every shader, by name.\npub static ALL: &[&Shader] = &[{all}];\n"));
    fs::write(variable("OUT_DIR")?.join("table.rs"), table).map_err(|e| format!("cannot write the table: {e}"))
}

/// Family and name of each shader: every `.wgsl` file one folder down, but for the shared ones.
fn shader_files(root: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        let family = folder.file_name().to_string_lossy().into_owned();
        if ["shared", "build", "src", "tests"].contains(&family.as_str()) || !folder.file_type()?.is_dir() {
            continue;
        }
        println!("cargo::rerun-if-changed={family}");
        for file in fs::read_dir(folder.path())? {
            if let Some(name) = file?.file_name().to_string_lossy().strip_suffix(".wgsl") {
                found.push((family.clone(), name.to_owned()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn entry(
    table: &mut String,
    (family, name): (&str, &str),
    variants: &[(&str, String)],
    subgroup: Option<&str>,
    shader: &assemble::Assembled,
    facts: &reflect::Facts,
) {
    let doc: String =
        shader.head.iter().fold(String::from("/// ```text\n"), |doc, line| doc + "/// " + line + "\n") + "/// ```\n";
    let reflect::Facts { n_storage, workgroup, n_params } = facts;
    let fields: String = ["half", "short", "narrow", "wide", "eight"]
        .iter()
        .map(|kind| match variants.iter().find(|(of, _)| of == kind) {
            Some((_, name)) => format!("{kind}: Some(&{name}), "),
            None => format!("{kind}: None, "),
        })
        .collect();
    // Writing to a string does not fail.
    let _ = write!(
        table,
        "{doc}pub static {}: Shader = Shader {{ name: {name:?}, family: {family:?}, source: {:?}, subgroup: {subgroup:?}, \
         n_storage: {n_storage}, workgroup: {workgroup:?}, n_params: {n_params}, {fields}}};\n\n",
        name.to_uppercase(),
        shader.source,
    );
}
