//! The conformance harness: cases, and the checks that every op has to pass. For ops of one's own too.
//!
//! A check takes a [`Case`] and says what is wrong as a value, so that a test of the harness itself can expect it.
//!
//! - [`conforms`]: a device's answer, and that of the case's gradient, against the f64 oracle, within the tolerance that
//!   the case derives; the same bits when run again and, on the CPU, with another number of threads.
//! - [`gradient_is_right`]: gradients of first and second order against differences, in f64.
//! - [`vmap_is_the_loop`]: `vmap` against one input after the other, for every choice of mapped inputs; a slot full of
//!   NaN leaves the others' bits alone, and an input answers with the same bits in any slot.
//! - [`is_refused`]: the errors that an op documents.

mod case;
mod conform;
mod core_cases;
mod failure;
mod gradcheck;
mod values;
mod verdict;
mod vmapcheck;

pub use case::{Case, Order, Reject, Scale, Tolerance};
pub use conform::{conforms, is_refused, rows_are_left_out};
pub use core_cases::core_cases;
pub use failure::Failure;
pub use gradcheck::gradient_is_right;
pub use values::{Draw, Input, ODD_SIZES, Values};
pub use vmapcheck::vmap_is_the_loop;

use acclimate_tensor::Device;

/// Every case there is: of the primitives and of each op in the registry, with the op's name.
pub fn all_cases() -> Vec<(&'static str, Case)> {
    let core = core_cases().into_iter().map(|c| ("core", c));
    core.chain(crate::registry::ALL.iter().flat_map(|e| (e.cases)().into_iter().map(|c| (e.name, c)))).collect()
}

/// Runs a check over cases and lists every failure. `ACCLIMATE_CASE` (part of an op's or a case's name) picks some.
///
/// # Errors
///
/// One line for each failure.
pub fn check_all<'a>(
    cases: impl IntoIterator<Item = &'a (&'static str, Case)>,
    device: &Device,
    check: fn(&Case, &Device) -> Result<(), Failure>,
) -> Result<usize, String> {
    let wanted = std::env::var("ACCLIMATE_CASE").unwrap_or_default();
    let (mut n, mut failures) = (0, Vec::new());
    for (op, case) in cases {
        if !format!("{op} {}", case.name).contains(&wanted) {
            continue;
        }
        n += 1;
        if let Err(failure) = check(case, device) {
            failures.push(format!("{op}: {failure}"));
        }
    }
    if failures.is_empty() { Ok(n) } else { Err(format!("{} of {n}:\n{}", failures.len(), failures.join("\n"))) }
}
