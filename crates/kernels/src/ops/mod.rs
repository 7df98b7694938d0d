//! The ops, a file each: formula, shape rule, reference, CPU kernel, launch, gradient, batching rule, cases.

use crate::registry::Entry;

// Outside the macro, so that rustfmt finds the files; a test compares the folder with the list.
pub mod avg_pool2d;
pub mod conv2d;
pub mod matmul;
pub mod max_pool2d;

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        /// Every op.
        pub const ALL: &[Entry] = &[$(
            Entry {
                name: stringify!($name),
                #[cfg(feature = "testkit")]
                cases: $name::cases,
                #[cfg(feature = "testkit")]
                rejects: $name::rejects,
            }
        ),*];
    };
}

ops! {
    avg_pool2d,
    conv2d,
    matmul,
    max_pool2d,
}
