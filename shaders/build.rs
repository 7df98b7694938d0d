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
    println!("cargo::rerun-if-changed=.");
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
        let plain = Capabilities::empty();
        let half = halves::halves(&shader).map(|s| s.and_then(|s| reflect::reflect(&s, plain).map(|facts| (s, facts))));
        let variants = [("half", half), ("short", twin::short(&read, &file, &shader))];
        let mut variant_names = [None, None];
        for ((kind, variant), own) in variants.into_iter().zip(&mut variant_names) {
            match variant {
                None => {}
                Some(Ok((text, facts))) => {
                    let variant = format!("{name}_{kind}");
                    entry(&mut table, (&family, &variant), [None, None], None, &text, &facts);
                    names.insert(variant.to_uppercase(), file.clone());
                    *own = Some(variant.to_uppercase());
                }
                Some(Err(fault)) => faults.push(format!("shaders/{fault}")),
            }
        }
        entry(&mut table, (&family, &name), variant_names, twin.as_deref(), &shader, &facts);
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
        if family == "shared" || !folder.file_type()?.is_dir() {
            continue;
        }
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
    variants: [Option<String>; 2],
    subgroup: Option<&str>,
    shader: &assemble::Assembled,
    facts: &reflect::Facts,
) {
    let doc: String =
        shader.head.iter().fold(String::from("/// ```text\n"), |doc, line| doc + "/// " + line + "\n") + "/// ```\n";
    let reflect::Facts { n_storage, workgroup, n_params } = facts;
    let [half, short] = variants.map(|name| name.map_or("None".into(), |name| format!("Some(&{name})")));
    // Writing to a string does not fail.
    let _ = write!(
        table,
        "{doc}pub static {}: Shader = Shader {{ name: {name:?}, family: {family:?}, source: {:?}, subgroup: {subgroup:?}, \
         n_storage: {n_storage}, workgroup: {workgroup:?}, n_params: {n_params}, half: {half}, short: {short} }};\n\n",
        name.to_uppercase(),
        shader.source,
    );
}
