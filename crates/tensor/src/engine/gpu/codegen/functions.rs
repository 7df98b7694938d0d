//! WGSL functions of the element-wise language.

use std::collections::BTreeMap;

use acclimate_shaders::shared::{HALF, PHILOX};

use crate::dtype::DType;
use crate::expr::Func;

/// The type that a value of this dtype has while it is computed: halves are floats then.
pub(super) fn computed(dtype: DType) -> &'static str {
    if dtype == DType::F16 { "f32" } else { dtype.wgsl() }
}

/// The zero of a dtype.
pub(super) fn zero(dtype: DType) -> &'static str {
    match computed(dtype) {
        "f32" => "0.0",
        "i32" => "0i",
        _ => "0u",
    }
}

/// Replaces `NAN(a)` by a test on the bits: compilers that assume finite numbers drop `a != a`.
fn without_nan(body: &str, dtype: DType) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("NAN(") {
        let (arg, after) = after.split_once(')').unwrap_or((after, ""));
        text.push_str(before);
        if dtype == DType::F32 {
            text.push_str(&format!("(bitcast<u32>({arg}) & 0x7fffffffu) > 0x7f800000u"));
        } else {
            text.push_str("false");
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// Declares `to_half` and `from_half`, once.
pub(super) fn declare_halves(declared: &mut BTreeMap<String, String>) {
    declared.insert("a_half".into(), HALF.trim_end().into());
}

/// Writes what was declared.
pub(super) fn write(declared: &BTreeMap<String, String>, text: &mut String) {
    for function in declared.values() {
        text.push_str(function);
        text.push_str("\n\n");
    }
}

/// Declares a function, once, and returns its name.
pub(super) fn declare(
    declared: &mut BTreeMap<String, String>,
    func: Func,
    dtype: DType,
    args: &[DType],
    out: DType,
) -> String {
    let name = format!("f_{}_{dtype}", func.name());
    if !declared.contains_key(&name) {
        let body = without_nan(func.wgsl(), dtype).replace("ZERO", zero(dtype));
        if body.contains("philox4x32") {
            declared.insert("a_philox".into(), PHILOX.trim_end().into());
        }
        if body.contains("to_half") {
            declare_halves(declared);
        }
        let params: Vec<String> =
            args.iter().zip(["a", "b", "c", "d"]).map(|(d, name)| format!("{name}: {}", computed(*d))).collect();
        let text = format!("fn {name}({}) -> {} {{\n    {body}\n}}", params.join(", "), computed(out));
        declared.insert(name.clone(), text);
    }
    name
}
