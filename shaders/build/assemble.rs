//! Splices shared files into a shader and remembers where each line came from.

use std::fmt;

/// Something wrong with a shader, at a place in the file its author wrote.
#[derive(Debug)]
pub struct Fault {
    /// The file, relative to the package root.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// A shader with all its imports in place.
pub struct Assembled {
    /// The whole text, as a driver gets it.
    pub source: String,
    /// The comment at the top of the shader's own file, without the slashes.
    pub head: Vec<String>,
    lines: Vec<(String, u32)>,
}

impl Assembled {
    /// A fault at a line and column of the assembled text, told in terms of the file it came from.
    pub fn fault(&self, line: u32, column: u32, message: String) -> Fault {
        let at = usize::try_from(line).unwrap_or(1).saturating_sub(1).min(self.lines.len().saturating_sub(1));
        let (file, line) = self.lines.get(at).cloned().unwrap_or_default();
        Fault { file, line, column, message }
    }

    /// Another text, whose lines come from where this one's do.
    pub fn rewritten(&self, source: String, head: Vec<String>) -> Self {
        Assembled { source, head, lines: self.lines.clone() }
    }

    /// With a line before the first.
    pub fn after(mut self, line: &str) -> Self {
        self.source.insert_str(0, &format!("{line}\n"));
        self.lines.insert(0, self.lines.first().cloned().unwrap_or_default());
        self
    }

    /// Whether a file was spliced in.
    pub fn has(&self, file: &str) -> bool {
        self.lines.iter().any(|(f, _)| f == file)
    }
}

/// Reads a file by its path below the package root.
pub type Read<'a> = &'a dyn Fn(&str) -> std::io::Result<String>;

/// Assembles `file`. Each line `// #import dir/name` becomes the text of `dir/name.wgsl`, the first time it is met.
/// `twin` says which file to take in place of which other.
///
/// # Errors
/// A file that cannot be read, at the line that imports it; whatever `lint` finds.
pub fn assemble(read: Read<'_>, file: &str, twin: Option<(&str, &str)>) -> Result<Assembled, Fault> {
    let mut out = Assembled { source: String::new(), head: Vec::new(), lines: Vec::new() };
    let origin = Fault { file: file.into(), line: 1, column: 1, message: String::new() };
    Splicer { read, twin, seen: Vec::new() }.splice(file, origin, &mut out)?;
    Ok(out)
}

struct Splicer<'a> {
    read: Read<'a>,
    twin: Option<(&'a str, &'a str)>,
    seen: Vec<String>,
}

impl Splicer<'_> {
    fn splice(&mut self, file: &str, at: Fault, out: &mut Assembled) -> Result<(), Fault> {
        let text = (self.read)(file).map_err(|e| Fault { message: format!("cannot read `{file}`: {e}"), ..at })?;
        let is_entry = self.seen.is_empty();
        crate::lint::lint(file, &text, is_entry)?;
        self.seen.push(file.into());
        if is_entry {
            out.head = text.lines().map_while(|l| l.strip_prefix("//")).map(|l| l.trim().to_owned()).collect();
        }
        for (line, number) in text.lines().zip(1..) {
            let Some(import) = line.trim().strip_prefix("// #import ") else {
                out.source.push_str(line);
                out.source.push('\n');
                out.lines.push((file.into(), number));
                continue;
            };
            let path = format!("{}.wgsl", import.trim());
            let path = self.twin.filter(|(plain, _)| *plain == path).map_or(path, |(_, other)| other.to_owned());
            if !self.seen.contains(&path) {
                let at = Fault { file: file.into(), line: number, column: 1, message: String::new() };
                self.splice(&path, at, out)?;
            }
        }
        Ok(())
    }
}
