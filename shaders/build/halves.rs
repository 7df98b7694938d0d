//! The same shader for packed halves: from `// #halves a b` in a shader's head a second one is made, whose inputs `a` and
//! `b` hold two halves to a word. Only how they are read differs, so one inner loop serves both.

use crate::assemble::{Assembled, Fault};

/// What stands in the head of a shader that is built for halves too.
const MARK: &str = "#halves ";

/// The shader for halves, if its head asks for one.
///
/// # Errors
/// If a named input is not bound as an array of `f32` or `vec4<f32>`, or is written.
pub fn halves(shader: &Assembled) -> Option<Result<Assembled, Fault>> {
    let names = shader.head.iter().find_map(|line| line.strip_prefix(MARK))?;
    let names: Vec<&str> = names.split_whitespace().collect();
    let mut source = shader.source.clone();
    for name in &names {
        source = match read_as_halves(&source, name) {
            Ok(source) => source,
            Err(message) => return Some(Err(shader.fault(1, 1, format!("halves of `{name}`: {message}")))),
        };
    }
    let mut head: Vec<String> = shader.head.iter().filter(|line| !line.starts_with(MARK)).cloned().collect();
    head.push(format!("Here {} are halves, two to a word, the first in the lower part.", names.join(" and ")));
    Some(Ok(shader.rewritten(source, head)))
}

/// `source` with the input `name` read as halves.
fn read_as_halves(source: &str, name: &str) -> Result<String, String> {
    let declared = |ty: &str| format!("> {name}: array<{ty}>;");
    let (from, to, value) = if source.contains(&declared("f32")) {
        ("f32", "u32", format!("f32 {{ return unpack2x16float({name}[i / 2u])[i % 2u]; }}"))
    } else if source.contains(&declared("vec4<f32>")) {
        let pairs = format!("let w = {name}[i]; return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));");
        ("vec4<f32>", "vec2<u32>", format!("vec4<f32> {{ {pairs} }}"))
    } else {
        return Err("it is not bound as an array of f32 or vec4<f32>".into());
    };
    let source = source.replace(&declared(from), &declared(to));
    let mut text = String::new();
    for line in source.lines() {
        let (code, comment) = line.split_at(line.find("//").unwrap_or(line.len()));
        text.push_str(&reads(code, name)?);
        text.push_str(comment);
        text.push('\n');
    }
    Ok(format!("{text}fn {name}_value(i: u32) -> {value}\n"))
}

/// A line with each `name[at]` as `name_value(at)`.
fn reads(code: &str, name: &str) -> Result<String, String> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let access = format!("{name}[");
    let (mut text, mut rest) = (String::new(), code);
    while let Some(at) = rest.find(&access) {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let after = &after[access.len()..];
        // The end of another name.
        if before.ends_with(part) {
            text.push_str(&access);
            rest = after;
            continue;
        }
        let mut depth = 1;
        let end = after.find(|c| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            depth == 0
        });
        let end = end.ok_or("a read that goes on in the next line")?;
        let behind = after[end + 1..].trim_start();
        let written = behind.starts_with('=') && !behind.starts_with("==");
        if written || ["+=", "-=", "*=", "/="].iter().any(|sign| behind.starts_with(sign)) {
            return Err("it is written".into());
        }
        text.push_str(&format!("{name}_value({})", reads(&after[..end], name)?));
        rest = &after[end + 1..];
    }
    text.push_str(rest);
    Ok(text)
}
