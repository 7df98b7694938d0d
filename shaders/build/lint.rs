//! House rules that a validator does not know, checked on the text of one file.

use crate::assemble::Fault;

/// Words that must not stand in a shader, and why.
const FORBIDDEN: [(&str, &str); 4] = [
    ("atomic<f32>", "float atomics add in an order that changes from run to run; use a fixed tree"),
    ("atomicCompareExchange", "a float atomic in disguise adds in an order that changes; use a fixed tree"),
    ("enable ", "the same text must load natively and in a browser, whose `enable` lines differ"),
    ("var<storage, read>", "every storage binding is `read_write`: inputs and outputs may share one buffer"),
];

/// Checks one file. `is_entry` is false for shared files, which need no formula and shapes.
///
/// # Errors
/// The first rule that is broken, with its line and column.
pub fn lint(file: &str, text: &str, is_entry: bool) -> Result<(), Fault> {
    let fault = |line: u32, column: usize, message: String| Fault {
        file: file.into(),
        line,
        column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        message,
    };
    let head: Vec<&str> = text.lines().map_while(|l| l.strip_prefix("//")).collect();
    if head.is_empty() {
        return Err(fault(1, 0, "a shader begins with a comment that says what it is".into()));
    }
    if is_entry && !(head.iter().any(|l| l.contains('=')) && head.iter().any(|l| l.contains('['))) {
        return Err(fault(1, 0, "the comment at the top gives the formula (`=`) and the shapes (`[..]`)".into()));
    }
    for (line, number) in text.lines().zip(1..) {
        let code = line.split("//").next().unwrap_or_default();
        for (word, why) in FORBIDDEN {
            if let Some(at) = code.find(word) {
                return Err(fault(number, at, format!("`{word}`: {why}")));
            }
        }
        if let Some(at) = self_comparison(code) {
            let message = "a value compared with itself: fast-math drivers remove such a NaN test; use shared/bits";
            return Err(fault(number, at, message.into()));
        }
    }
    Ok(())
}

/// Where `x != x` or `x == x` stands, if it does.
fn self_comparison(code: &str) -> Option<usize> {
    let operand = |c: char| c.is_alphanumeric() || "_.[]".contains(c);
    ["!=", "=="].iter().find_map(|sign| {
        code.match_indices(sign).find_map(|(at, _)| {
            let left = code.get(..at)?.trim_end();
            let right = code.get(at + sign.len()..)?.trim_start();
            let left = left.get(left.rfind(|c| !operand(c)).map_or(0, |i| i + 1)..)?;
            let right = right.get(..right.find(|c| !operand(c)).unwrap_or(right.len()))?;
            (!left.is_empty() && left == right).then_some(at)
        })
    })
}
