//! f32 in JSON without losing a bit: `#[serde(with = "exact")]`, and `exact::list` for a `Vec`.
//!
//! A finite number is written as its shortest decimal. JSON readers go through f64, where that decimal could round
//! twice; if it would, the number is written with the digits of its f64 value instead. What JSON has no number for
//! becomes a string: `"inf"`, `"-inf"`, and `"nan:7fc00000"` with the bits.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(x: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if x.is_nan() {
        serializer.serialize_str(&format!("nan:{:08x}", x.to_bits()))
    } else if x.is_infinite() {
        serializer.serialize_str(if *x > 0.0 { "inf" } else { "-inf" })
    } else if survives_f64(*x) {
        serializer.serialize_f32(*x)
    } else {
        serializer.serialize_f64(f64::from(*x))
    }
}

/// Does the shortest decimal of `x`, read as f64 and then rounded to f32, give `x` again?
fn survives_f64(x: f32) -> bool {
    x.to_string().parse::<f64>().is_ok_and(|wide| (wide as f32).to_bits() == x.to_bits())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = f32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, \"inf\", \"-inf\" or \"nan:\" with eight hexadecimal digits")
        }

        fn visit_f64<E: Error>(self, wide: f64) -> Result<f32, E> {
            let x = wide as f32;
            if x.is_finite() { Ok(x) } else { Err(E::custom(format!("{wide} does not fit f32"))) }
        }

        fn visit_u64<E: Error>(self, whole: u64) -> Result<f32, E> {
            Ok(whole as f32)
        }

        fn visit_i64<E: Error>(self, whole: i64) -> Result<f32, E> {
            Ok(whole as f32)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<f32, E> {
            match text {
                "inf" => return Ok(f32::INFINITY),
                "-inf" => return Ok(f32::NEG_INFINITY),
                _ => {}
            }
            text.strip_prefix("nan:")
                .filter(|hex| hex.len() == 8)
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                .map(f32::from_bits)
                .filter(|x| x.is_nan())
                .ok_or_else(|| E::custom(format!("\"{text}\" is no number")))
        }
    }

    deserializer.deserialize_any(Number)
}

/// The same for a list.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Exact(#[serde(with = "super")] f32);

    pub(crate) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&x| Exact(x)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        Ok(Vec::<Exact>::deserialize(deserializer)?.into_iter().map(|Exact(x)| x).collect())
    }
}

/// The same for a number that may be absent (`null`).
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Exact(#[serde(with = "super")] f32);

    pub(crate) fn serialize<S: Serializer>(x: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
        x.map(Exact).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
        Ok(Option::<Exact>::deserialize(deserializer)?.map(|Exact(x)| x))
    }
}

#[cfg(test)]
mod tests {
    use super::{Deserialize, Serialize, list};
    use proptest::prelude::*;

    #[derive(Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        one: f32,
        #[serde(with = "list")]
        many: Vec<f32>,
    }

    fn check(x: f32) {
        let text = serde_json::to_string(&Holder { one: x, many: vec![x, -x] }).unwrap();
        let back: Holder = serde_json::from_str(&text).unwrap();
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&[back.one]), bits(&[x]), "{text}");
        assert_eq!(bits(&back.many), bits(&[x, -x]), "{text}");
    }

    #[test]
    fn the_odd_ones_come_back() {
        for x in [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY, f32::NAN, 0.1, 16_777_217.0] {
            check(x);
        }
        check(f32::from_bits(0x7f80_0001)); // a signaling NaN keeps its payload
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn every_bit_pattern_comes_back(bits in any::<u32>()) {
            check(f32::from_bits(bits));
        }
    }

    #[test]
    fn what_is_no_f32_is_refused() {
        for text in ["1e300", "\"nan:3f800000\"", "\"nan:7fc0\"", "\"one\"", "null", "true"] {
            let json = format!("{{\"one\":{text},\"many\":[]}}");
            assert!(serde_json::from_str::<Holder>(&json).is_err(), "{json}");
        }
    }
}
