//! Shaders that are written twice: for any adapter, and for those with subgroup operations.

use naga::valid::Capabilities;

use crate::assemble::{Assembled, Fault, Read, assemble};
use crate::reflect::{Facts, reflect};

/// The file that a twin takes in place of another: (plain, with subgroup operations).
const SUBGROUP: (&str, &str) = ("shared/reduce.wgsl", "shared/reduce_subgroup.wgsl");

/// What stands in the head of a shader that is built for short rows too: a thread a row.
const SHORT: &str = "#short";
const ALONE: (&str, &str) = (SUBGROUP.0, "shared/reduce_alone.wgsl");

/// The shader for short rows, if its head asks for one.
///
/// # Errors
/// What is wrong with it.
pub fn short(read: Read<'_>, file: &str, shader: &Assembled) -> Option<Result<(Assembled, Facts), Fault>> {
    shader.head.iter().any(|line| line == SHORT).then(|| {
        let mut short = assemble(read, file, Some(ALONE))?;
        short.head.push("Here a thread has a row of its own.".into());
        Ok((reflect(&short, Capabilities::empty())?, short)).map(|(facts, short)| (short, facts))
    })
}

/// What stands in the head of a shader for adapters with optional features, and those features by name.
const NEEDS: &str = "#needs ";
const FEATURES: [(&str, Capabilities); 2] =
    [("int64", Capabilities::SHADER_INT64), ("subgroups", Capabilities::SUBGROUP)];

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
    let shader = assemble(read, file, None)?;
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
