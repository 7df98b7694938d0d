//! Shaders that are written twice: for any adapter, and for those with subgroup operations.

use naga::valid::Capabilities;

use crate::assemble::{Assembled, Fault, Read, assemble};
use crate::reflect::{Facts, reflect};

/// The file that a twin takes in place of another: (plain, with subgroup operations).
const SUBGROUP: (&str, &str) = ("shared/reduce.wgsl", "shared/reduce_subgroup.wgsl");

/// Blocks of tiled products.
const TILE: &str = "shared/tile.wgsl";

/// A shader that is built once more with another file in place of one.
pub struct Variant {
    /// What stands in the head of such a shader.
    mark: &'static str,
    /// The end of the variant's name.
    pub kind: &'static str,
    /// The file, and what takes its place.
    files: (&'static str, &'static str),
    /// What the variant's head says beside that of the shader.
    about: &'static str,
}

/// All kinds of variants.
pub const VARIANTS: [Variant; 4] = [
    Variant {
        mark: "#short",
        kind: "short",
        files: (SUBGROUP.0, "shared/reduce_alone.wgsl"),
        about: "Here a thread has a row of its own.",
    },
    Variant {
        mark: "#narrow",
        kind: "narrow",
        files: (TILE, "shared/tile_narrow.wgsl"),
        about: "Here a block is 32×32, and 64 threads make it.",
    },
    Variant { mark: "#wide", kind: "wide", files: (TILE, "shared/tile_wide.wgsl"), about: "Here a block is 128×128." },
    Variant {
        mark: "#eight",
        kind: "eight",
        files: ("shared/sixteen.wgsl", "shared/eight.wgsl"),
        about: "Here matrices are 8×8.",
    },
];

/// The variant of a shader, if its head asks for it.
///
/// # Errors
/// What is wrong with it.
pub fn variant(
    read: Read<'_>,
    file: &str,
    shader: &Assembled,
    of: &Variant,
) -> Option<Result<(Assembled, Facts), Fault>> {
    shader.head.iter().any(|line| line == of.mark).then(|| {
        let mut variant = enabled(assemble(read, file, Some(of.files))?);
        variant.head.push(of.about.into());
        Ok((reflect(&variant, needed(&variant)?)?, variant)).map(|(facts, variant)| (variant, facts))
    })
}

/// What stands in the head of a shader for adapters with optional features, and those features by name.
const NEEDS: &str = "#needs ";
const FEATURES: [(&str, Capabilities); 3] = [
    ("int64", Capabilities::SHADER_INT64),
    ("subgroups", Capabilities::SUBGROUP),
    (COOPERATIVE, Capabilities::COOPERATIVE_MATRIX.union(Capabilities::SHADER_FLOAT16).union(Capabilities::SUBGROUP)),
];
const COOPERATIVE: &str = "cooperative";

/// With the lines at the top that cooperative matrices need; they are for native drivers alone.
fn enabled(shader: Assembled) -> Assembled {
    let cooperative = |line: &String| line.strip_prefix(NEEDS).is_some_and(|names| names.contains(COOPERATIVE));
    if shader.head.iter().any(cooperative) {
        shader.after("enable f16; enable wgpu_cooperative_matrix;")
    } else {
        shader
    }
}

/// The optional features that the head of a shader names: for most none.
fn needed(shader: &Assembled) -> Result<Capabilities, Fault> {
    let mut named = shader.head.iter().filter_map(|line| line.strip_prefix(NEEDS)).flat_map(str::split_whitespace);
    named.try_fold(Capabilities::empty(), |all, name| {
        let known = FEATURES.iter().find(|(known, _)| *known == name);
        let (_, feature) =
            known.ok_or_else(|| shader.fault(1, 1, format!("`{name}` is no feature that shaders ask for")))?;
        Ok(all | *feature)
    })
}

/// A shader, and the text of its twin if it has one. It needs no optional feature of an adapter that its head does not name.
///
/// # Errors
/// What is wrong with either, a feature that is not known, and a twin that binds something else.
pub fn both(read: Read<'_>, file: &str) -> Result<(Assembled, Facts, Option<String>), Fault> {
    let shader = enabled(assemble(read, file, None)?);
    let facts = reflect(&shader, needed(&shader)?)?;
    if !shader.has(SUBGROUP.0) {
        return Ok((shader, facts, None));
    }
    let twin = assemble(read, file, Some(SUBGROUP))?;
    if reflect(&twin, Capabilities::SUBGROUP)? != facts {
        return Err(twin.fault(1, 1, format!("it binds something else with {}", SUBGROUP.1)));
    }
    Ok((shader, facts, Some(twin.source)))
}
