//! Comparing what was recorded with what was recomputed, field by field.
//!
//! Both sides are JSON, which holds every bit of a number: a field that is added to the facts is compared without
//! anyone having to think of it here.

use serde_json::Value;

/// How far numbers may differ when device, engine or kernel variants do: |a − b| ≤ absolute + relative · max(|a|, |b|).
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// The part that does not depend on the numbers' size.
    pub absolute: f32,
    /// The part that does.
    pub relative: f32,
}

/// Where two JSON values differ first, with both values; `None` if they do not. Fractions are compared by their bits,
/// or within a tolerance; everything else must be the same.
pub(super) fn first_difference(a: &Value, b: &Value, tolerance: Option<Tolerance>, at: &str) -> Option<String> {
    let inside = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) if x.len() == y.len() && x.keys().eq(y.keys()) => {
            x.iter().zip(y.values()).find_map(|((k, x), y)| first_difference(x, y, tolerance, &inside(k)))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().find_map(|(i, (x, y))| first_difference(x, y, tolerance, &format!("{at}[{i}]")))
        }
        _ if same_leaf(a, b, tolerance) => None,
        _ => Some(format!("{at} was recorded as {a} and recomputed as {b}")),
    }
}

fn same_leaf(a: &Value, b: &Value, tolerance: Option<Tolerance>) -> bool {
    let fraction = |v: &Value| v.as_f64().filter(|_| v.is_f64());
    match (fraction(a), fraction(b), tolerance) {
        // `==` would take 0 and −0 for the same.
        (Some(x), Some(y), None) => x.to_bits() == y.to_bits(),
        (Some(x), Some(y), Some(t)) => {
            (x - y).abs() <= f64::from(t.absolute) + f64::from(t.relative) * x.abs().max(y.abs())
        }
        // Another device may give a NaN another payload.
        (None, None, Some(_)) if is_nan(a) && is_nan(b) => true,
        _ => a == b,
    }
}

fn is_nan(v: &Value) -> bool {
    v.as_str().is_some_and(|text| text.starts_with("nan:"))
}
