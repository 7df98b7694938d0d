//! Parses and validates an assembled shader, and reads off what an engine must know to launch it.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, StorageAccess, TypeInner};

use crate::assemble::{Assembled, Fault};

/// What an engine must know about a shader.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    /// Storage bindings, numbered from 1.
    pub n_storage: u32,
    /// Threads of a workgroup along x, y and z.
    pub workgroup: [u32; 3],
    /// Fields of `Params`, four bytes each.
    pub n_params: u32,
}

/// WebGPU's default limits: what every adapter gives.
const MAX_STORAGE: u32 = 8;
const MAX_THREADS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16_384;

/// Validates `shader` against plain WGSL, with these optional features of adapters beside it, and against the binding
/// convention of this package.
///
/// # Errors
/// The first thing that is wrong, at its file, line and column.
pub fn reflect(shader: &Assembled, optional: Capabilities) -> Result<Facts, Fault> {
    let module = naga::front::wgsl::parse_str(&shader.source).map_err(|e| {
        let at = e.location(&shader.source).map_or((1, 1), |l| (l.line_number, l.line_position));
        let hints: String = e.labels().map(|(_, hint)| format!("; {hint}")).collect();
        shader.fault(at.0, at.1, format!("{}{hints}", e.message()))
    })?;
    // `unpack2x16float` is plain WGSL, though naga asks for it.
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | optional;
    Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| {
        let at = e.location(&shader.source).map_or((1, 1), |l| (l.line_number, l.line_position));
        shader.fault(at.0, at.1, chain(e.as_inner()))
    })?;
    bindings(shader, &module)
}

/// An error and all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

fn bindings(shader: &Assembled, module: &Module) -> Result<Facts, Fault> {
    let at = |span: naga::Span, message: String| {
        let place = span.location(&shader.source);
        shader.fault(place.line_number, place.line_position, message)
    };
    let whole = |message: &str| shader.fault(u32::MAX, 1, message.into());
    let mut n_params = None;
    let mut workgroup_bytes = 0;
    let mut slots = Vec::new();
    for (handle, var) in module.global_variables.iter() {
        let span = module.global_variables.get_span(handle);
        match var.space {
            AddressSpace::Uniform => {
                n_params = Some(params(module, var).ok_or_else(|| {
                    at(
                        span,
                        "expected `@group(0) @binding(0) var<uniform> p: Params`, a struct of 4-byte scalars".into(),
                    )
                })?);
            }
            AddressSpace::Storage { access } => {
                if !access.contains(StorageAccess::LOAD | StorageAccess::STORE) {
                    return Err(at(span, "a storage binding is `var<storage, read_write>`".into()));
                }
                slots.push(var.binding.as_ref().filter(|b| b.group == 0).map(|b| b.binding));
            }
            AddressSpace::WorkGroup => workgroup_bytes += module.types[var.ty].inner.size(module.to_ctx()),
            _ => {}
        }
    }
    let n_storage = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    slots.sort_unstable();
    if n_storage > MAX_STORAGE || !slots.iter().copied().eq((1..=n_storage).map(Some)) {
        return Err(whole("storage bindings stand in group 0 and count 1, 2, .. with at most 8 of them"));
    }
    if workgroup_bytes > MAX_WORKGROUP_BYTES {
        return Err(whole(&format!(
            "{workgroup_bytes} bytes of workgroup memory, and {MAX_WORKGROUP_BYTES} is the limit"
        )));
    }
    let [entry] = module.entry_points.as_slice() else {
        return Err(whole("expected one entry point, `main`"));
    };
    let threads: u32 = entry.workgroup_size.iter().product();
    if entry.name != "main" || threads == 0 || threads > MAX_THREADS {
        return Err(whole("the entry point is a compute shader `main` of at most 256 threads"));
    }
    let n_params = n_params.ok_or_else(|| whole("no `Params` at binding 0"))?;
    Ok(Facts { n_storage, workgroup: entry.workgroup_size, n_params })
}

/// How many fields `Params` has, if it is what the convention asks for.
fn params(module: &Module, var: &GlobalVariable) -> Option<u32> {
    let binding = var.binding.as_ref().filter(|b| b.group == 0 && b.binding == 0);
    let TypeInner::Struct { members, .. } = &module.types[var.ty].inner else { return None };
    let scalars = members.iter().all(|m| matches!(module.types[m.ty].inner, TypeInner::Scalar(s) if s.width == 4));
    let packed = members.iter().zip(0u32..).all(|(m, i)| m.offset == 4 * i);
    (binding.is_some() && scalars && packed).then(|| u32::try_from(members.len()).ok())?
}
