//! The compute shaders of Acclimate: WGSL by family, checked by naga when this crate is built.
//!
//! No graphics API stands behind this crate: it is text and facts about it. `README.md` gives the binding
//! convention that all shaders share. The comment of each shader in [`shaders`] gives formula, shapes, bindings,
//! parameters and the number of workgroups to dispatch.
//!
//! ```
//! let shader = &acclimate_shaders::shaders::MATMUL;
//! assert_eq!(shader.n_storage, 3);
//! assert_eq!(shader.half.map(|half| half.name), Some("matmul_half"));
//! assert!(shader.source.contains("fn main"));
//! ```

/// A shader that has been assembled and validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The name of its file, without folder and ending; unique.
    pub name: &'static str,
    /// The folder it lies in.
    pub family: &'static str,
    /// WGSL with all imports in place. The entry point is `main`.
    pub source: &'static str,
    /// The same with subgroup operations, if there is such a twin: bindings, parameters and workgroups are equal.
    pub subgroup: Option<&'static str>,
    /// How many storage bindings there are; they stand in group 0 and are numbered from 1.
    pub n_storage: u32,
    /// Threads of a workgroup along x, y and z.
    pub workgroup: [u32; 3],
    /// Fields of `Params` at binding 0, four bytes each; the buffer is padded to a multiple of 16 bytes.
    pub n_params: u32,
    /// The same for inputs of packed halves, where there is one.
    pub half: Option<&'static Shader>,
    /// The same with a thread for each row, where there is one: for rows too short to share.
    pub short: Option<&'static Shader>,
    /// The same in blocks of 32×32, where there is one: for products with few blocks.
    pub narrow: Option<&'static Shader>,
    /// The same in blocks of 128×128, where there is one: for products with many blocks.
    pub wide: Option<&'static Shader>,
    /// The same on cooperative matrices of 8×8, where there is one.
    pub eight: Option<&'static Shader>,
}

impl Shader {
    /// A shader of one's own, without twin and variants.
    #[must_use]
    pub const fn new(
        name: &'static str,
        family: &'static str,
        source: &'static str,
        n_storage: u32,
        workgroup: [u32; 3],
        n_params: u32,
    ) -> Self {
        let none = None;
        Shader {
            name,
            family,
            source,
            subgroup: None,
            n_storage,
            workgroup,
            n_params,
            half: none,
            short: none,
            narrow: none,
            wide: none,
            eight: none,
        }
    }

    /// The variant whose blocks have this side; the shader itself where there is none.
    #[must_use]
    pub fn of_side(&'static self, side: usize) -> &'static Shader {
        let variant = match side {
            32 => self.narrow,
            128 => self.wide,
            _ => None,
        };
        variant.unwrap_or(self)
    }

    /// Whether what it stores goes through [`shared::FINISH`], which an engine may replace.
    #[must_use]
    pub fn can_finish(&self) -> bool {
        self.source.contains(shared::FINISH)
    }

    /// The text for an adapter with subgroup operations, or for one without.
    #[must_use]
    pub fn text(&self, subgroups: bool) -> &'static str {
        self.subgroup.filter(|_| subgroups).unwrap_or(self.source)
    }
}

/// One constant for each shader, and the list of all of them.
pub mod shaders {
    use crate::Shader;

    include!(concat!(env!("OUT_DIR"), "/table.rs"));
}

/// Parts that shaders share, for those who write more: a custom op, a fused group.
pub mod shared {
    /// `workgroup_index(wid, nwg)` and `element_index(wid, nwg, thread)`.
    pub const INDEX: &str = include_str!("../shared/index.wgsl");
    /// `is_nan(x)` and `is_finite(x)` on the bits.
    pub const BITS: &str = include_str!("../shared/bits.wgsl");
    /// `exp_down(y)` and `one_minus_exp(y)` for y ≤ 0.
    pub const EXP: &str = include_str!("../shared/exp.wgsl");
    /// `finish(at, value)`: what becomes of result `value`, number `at` of its array, before it is stored: nothing.
    pub const FINISH: &str = include_str!("../shared/finish.wgsl");
    /// `to_half(x)` and `from_half(h)`, exact on every driver.
    pub const HALF: &str = include_str!("../shared/half.wgsl");
    /// `pair(word)`, `four_of(pairs)` and `pairs_of(four)`: two words in one of 64 bits, which a device must have.
    pub const PAIRS: &str = include_str!("../shared/pairs.wgsl");
    /// `philox4x32(key, counter)` and `open_uniform(word)`.
    pub const PHILOX: &str = include_str!("../shared/philox.wgsl");
    /// `workgroup_sum(value, lane)` and `workgroup_max(value, lane)` over 256 threads; `main` takes a `lane: Lane`.
    pub const REDUCE: &str = include_str!("../shared/reduce.wgsl");
}

/// The shader of this name, if there is one.
#[must_use]
pub fn find(name: &str) -> Option<&'static Shader> {
    shaders::ALL.iter().copied().find(|shader| shader.name == name)
}
