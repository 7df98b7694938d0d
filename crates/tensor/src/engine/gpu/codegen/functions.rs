//! WGSL functions of the element-wise language.

use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::expr::Func;

/// Philox4x32-10 (Salmon et al. 2011). WGSL has no high half of a product: it is put together from 16-bit halves.
const PHILOX: &str = "fn mul_hi(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (other >> 16u);
}

fn philox4x32(key: vec2<u32>, counter: vec4<u32>) -> vec4<u32> {
    var k = key;
    var c = counter;
    for (var round = 0u; round < 10u; round++) {
        let high0 = mul_hi(c.x, 0xd2511f53u);
        let high1 = mul_hi(c.z, 0xcd9e8d57u);
        c = vec4<u32>(high1 ^ c.y ^ k.x, c.z * 0xcd9e8d57u, high0 ^ c.w ^ k.y, c.x * 0xd2511f53u);
        k = k + vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}";

/// The zero of a dtype.
pub(super) fn zero(dtype: DType) -> &'static str {
    match dtype.wgsl() {
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
            declared.insert("a_philox".into(), PHILOX.into());
        }
        let params: Vec<String> =
            args.iter().zip(["a", "b", "c", "d"]).map(|(d, name)| format!("{name}: {}", d.wgsl())).collect();
        let text = format!("fn {name}({}) -> {} {{\n    {body}\n}}", params.join(", "), out.wgsl());
        declared.insert(name.clone(), text);
    }
    name
}
