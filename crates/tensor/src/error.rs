//! The one error type of this crate.

use crate::dtype::DType;

/// What can go wrong. Shape and dtype errors come when an op is recorded; the others when work runs.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes that an op cannot take.
    #[error("{op}: expected {expected}, found {found}")]
    Shape {
        /// The op.
        op: &'static str,
        /// What it needs.
        expected: String,
        /// What it got.
        found: String,
    },
    /// Two shapes that do not broadcast against each other.
    #[error(
        "{op}: shapes {left} and {right} do not broadcast: each pair of trailing sizes must be equal or have a 1; reshape or expand one of them"
    )]
    Broadcast {
        /// The op.
        op: &'static str,
        /// Left shape.
        left: String,
        /// Right shape.
        right: String,
    },
    /// A dtype that an op cannot take.
    #[error("{op}: expected dtype {expected}, found {found}; use `cast`")]
    DType {
        /// The op.
        op: &'static str,
        /// What it needs.
        expected: String,
        /// What it got.
        found: DType,
    },
    /// An axis that the tensor does not have.
    #[error("{op}: axis {axis} is out of range for a tensor of rank {rank}")]
    Axis {
        /// The op.
        op: &'static str,
        /// The axis as given; negative counts from the end.
        axis: isize,
        /// The rank.
        rank: usize,
    },
    /// A size that does not fit into the address space.
    #[error("{op}: the number of elements of shape {shape} overflows")]
    TooLarge {
        /// The op.
        op: &'static str,
        /// The shape.
        shape: String,
    },
    /// Inputs on different devices.
    #[error("{op}: inputs are on different devices, {left} and {right}; move one of them with `to_device`")]
    Devices {
        /// The op.
        op: &'static str,
        /// First device.
        left: String,
        /// Second device.
        right: String,
    },
    /// An argument outside its range.
    #[error("{op}: {what}: expected {expected}, found {found}")]
    Argument {
        /// The op.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// Its range.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An op without a gradient rule lies between the loss and a parameter.
    #[error("{op} has no gradient; detach its input, or do not ask for a gradient through it")]
    NotDifferentiable {
        /// The op.
        op: &'static str,
    },
    /// An op without a batching rule inside `vmap`.
    #[error("{op} has no batching rule; it cannot depend on a mapped input of vmap")]
    NotBatchable {
        /// The op.
        op: &'static str,
    },
    /// A value was asked for while a function was being traced.
    #[error(
        "{op}: the value depends on an input of `compile` or `vmap` and does not exist while tracing; return it instead"
    )]
    Tracing {
        /// What asked.
        op: &'static str,
    },
    /// A second trace of a compiled function recorded another graph.
    #[error(
        "the compiled function recorded another graph on its second call: {difference}; a value of the host was baked in, pass it as an input"
    )]
    Retrace {
        /// The first node that differs.
        difference: String,
    },
    /// No device of that name.
    #[error("no device matches {name:?}; present are: {present}")]
    NoDevice {
        /// What was asked for.
        name: String,
        /// What is there.
        present: String,
    },
    /// A buffer or binding above a limit of the device.
    #[error("{what} needs {needed} bytes, above the device's limit of {limit}")]
    Limit {
        /// The value or buffer.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The device has no memory left.
    #[error("out of memory on {device}: {needed} bytes asked for {what}")]
    OutOfMemory {
        /// The device.
        device: String,
        /// Bytes asked for.
        needed: u64,
        /// What for.
        what: String,
    },
    /// The device is gone; what was on the host is still there.
    #[error("device lost ({device}): {reason}; build the session again on another device from host-side state")]
    DeviceLost {
        /// The device.
        device: String,
        /// The driver's words.
        reason: String,
    },
    /// The driver refused something.
    #[error("driver error in {what}: {reason}")]
    Driver {
        /// The launch or object.
        what: String,
        /// The driver's words.
        reason: String,
    },
    /// A check asked for by `ACCLIMATE_CHECK=finite` failed.
    #[error("{node} made a value that is not finite (element {index}); recorded at {at}")]
    NotFinite {
        /// The first node.
        node: String,
        /// The element.
        index: usize,
        /// The source location.
        at: String,
    },
    /// An internal contradiction: a defect of this crate.
    #[error("internal error in {op}: {what}; please report it")]
    Internal {
        /// Where.
        op: &'static str,
        /// What.
        what: String,
    },
}

impl Error {
    /// A shape error.
    pub fn shape(op: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error::Shape { op, expected: expected.into(), found: found.into() }
    }

    /// An argument error.
    pub fn argument(
        op: &'static str,
        what: &'static str,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Error::Argument { op, what, expected: expected.into(), found: found.to_string() }
    }

    /// An internal contradiction.
    pub fn internal(op: &'static str, what: impl Into<String>) -> Self {
        Error::Internal { op, what: what.into() }
    }

    /// Whether a shape, an axis or a size was wrong.
    pub fn is_shape(&self) -> bool {
        matches!(self, Error::Shape { .. } | Error::Broadcast { .. } | Error::Axis { .. } | Error::TooLarge { .. })
    }

    /// Whether the device is gone.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Error::DeviceLost { .. })
    }

    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::OutOfMemory { .. })
    }
}

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
