//! Shaders that are written twice: for any adapter, and for those with subgroup operations.

use naga::valid::Capabilities;

use crate::assemble::{Assembled, Fault, Read, assemble};
use crate::reflect::{Facts, reflect};

/// The file that a twin takes in place of another: (plain, with subgroup operations).
const SUBGROUP: (&str, &str) = ("shared/reduce.wgsl", "shared/reduce_subgroup.wgsl");

/// A shader that needs no optional feature of any adapter, and the text of its twin if it has one.
///
/// # Errors
/// What is wrong with either, and a twin that binds something else.
pub fn both(read: Read<'_>, file: &str) -> Result<(Assembled, Facts, Option<String>), Fault> {
    let shader = assemble(read, file, None)?;
    let facts = reflect(&shader, Capabilities::empty())?;
    if !shader.has(SUBGROUP.0) {
        return Ok((shader, facts, None));
    }
    let twin = assemble(read, file, Some(SUBGROUP))?;
    if reflect(&twin, Capabilities::SUBGROUP)? != facts {
        return Err(twin.fault(1, 1, format!("it binds something else with {}", SUBGROUP.1)));
    }
    Ok((shader, facts, Some(twin.source)))
}
