//! WGSL of fused groups.
//!
//! The text depends on structure only: functions, dtypes, the axes left after neighbors were merged, and for each load
//! how it walks over them. Sizes, strides, offsets and scalars are words of `Params`, so that shapes share pipelines.

mod copy;
mod finish;
mod functions;
mod index;
mod lanes;
mod map;
mod quads;
mod reduce;

use std::collections::BTreeMap;
use std::fmt::Write;

use acclimate_shaders::shared;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::Func;
use crate::plan::layout::Layout;
use crate::plan::{Program, Source, Term, ValueId};

use super::launch::{Range, Word};
pub(super) use copy::{copy, zero};
pub(super) use finish::finished;
pub(super) use map::map;
pub(super) use reduce::reduce;

/// Threads of a workgroup.
const THREADS: usize = 256;

/// The lines of `main` that find the workgroup.
const MAIN: &str = "@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) thread: u32";
/// Those that find the subgroup as well.
const SUBGROUP: &str = ",
        @builtin(subgroup_invocation_id) in_subgroup: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(num_subgroups) n_subgroups: u32";

/// A group being written.
#[derive(Default)]
struct Writer {
    params: Vec<(String, &'static str, Word)>,
    bindings: Vec<(Range, &'static str)>,
    functions: BTreeMap<String, String>,
    body: String,
    depth: usize,
    /// Whether `main` knows its subgroup.
    subgroups: bool,
    /// Whether fours are bound as two words of 64 bits.
    pairs: bool,
    /// What the names of parameters begin with.
    prefix: &'static str,
    /// How many bindings are there before its own.
    bound: usize,
}

/// Fours as two words of 64 bits.
const PAIRS: &str = "vec2<u64>";

/// A bound array.
struct Array {
    name: String,
    /// The type of its elements.
    stored: &'static str,
}

/// Where a value is bound: the range and how many words into it the value begins.
type Locate<'a> = &'a dyn Fn(ValueId) -> Result<(Range, usize)>;

impl Writer {
    /// Adds a parameter and returns how to write it.
    fn param(&mut self, name: impl Into<String>, ty: &'static str, word: Word) -> String {
        let name = format!("{}{}", self.prefix, name.into());
        let text = format!("p.{name}");
        if !self.params.iter().any(|(n, ..)| *n == name) {
            self.params.push((name, ty, word));
        }
        text
    }

    /// Binds a range as an array. The same range is bound once, even if its elements are read as one type and written
    /// as another: a shader must not see writable memory under two names.
    fn bind(&mut self, range: Range, ty: &'static str) -> Array {
        let found = self.bindings.iter().position(|&(r, _)| r == range);
        let ty = if self.pairs && ty.starts_with("vec4") { PAIRS } else { ty };
        let index = found.unwrap_or_else(|| {
            self.bindings.push((range, ty));
            self.bindings.len() - 1
        });
        Array { name: format!("b{}", self.bound + index + 1), stored: self.bindings[index].1 }
    }

    /// Writes `value` of WGSL type `ty` to an element.
    fn store(array: &Array, at: &str, value: &str, ty: &str) -> String {
        let Array { name, stored } = array;
        match *stored {
            // Packed as it is, LLVM 15 takes a select between a value and 0 apart lane by lane: twice the time.
            PAIRS => format!("{name}[{at}] = pairs_of(bitcast<vec4<u32>>({value}) | vec4<u32>(thread >> 31u));"),
            stored if stored == ty => format!("{name}[{at}] = {value};"),
            stored => format!("{name}[{at}] = bitcast<{stored}>({value});"),
        }
    }

    /// An element as WGSL type `ty`.
    fn element(array: &Array, at: &str, ty: &str) -> String {
        let Array { name, stored } = array;
        match *stored {
            PAIRS => format!("bitcast<{ty}>(four_of({name}[{at}]))"),
            stored if stored == ty => format!("{name}[{at}]"),
            _ => format!("bitcast<{ty}>({name}[{at}])"),
        }
    }

    fn line(&mut self, text: impl AsRef<str>) {
        for _ in 0..=self.depth {
            self.body.push_str("    ");
        }
        self.body.push_str(text.as_ref());
        self.body.push('\n');
    }

    fn open(&mut self, text: impl AsRef<str>) {
        self.line(text);
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }

    /// Declares the function and returns its name.
    fn function(&mut self, func: Func, dtype: DType, args: &[DType], out: DType) -> String {
        functions::declare(&mut self.functions, func, dtype, args, out)
    }

    /// Writes the value of a term that is not a load, as `t<index>`.
    fn compute(&mut self, program: &Program, index: usize) -> Result<()> {
        match &program.terms[index] {
            Term::Load { .. } => Err(Error::internal("codegen", "a load is not computed")),
            Term::Scalar { index: scalar, dtype } => {
                // Numbered within the group: where in the plan a scalar stands must not show in the text.
                let text = self.param(format!("scalar{index}"), functions::computed(*dtype), Word::Scalar(*scalar));
                self.line(format!("let t{index} = {text};"));
                Ok(())
            }
            Term::Apply { func, dtype, out, args } => {
                if args.iter().any(|&a| a >= index) {
                    return Err(Error::internal("codegen", format!("term {index} uses a later term")));
                }
                let names: Vec<String> = args.iter().map(|a| format!("t{a}")).collect();
                if matches!(func, Func::Identity | Func::Detach) {
                    self.line(format!("let t{index} = {};", names[0]));
                    return Ok(());
                }
                let dtypes: Vec<DType> = args.iter().map(|&a| program.terms[a].dtype()).collect();
                let name = self.function(*func, *dtype, &dtypes, *out);
                self.line(format!("let t{index} = {name}({});", names.join(", ")));
                Ok(())
            }
        }
    }

    /// Writes the values of all terms that are not loads.
    fn compute_all(&mut self, program: &Program) -> Result<()> {
        let computed = |(_, term): &(usize, &Term)| !matches!(term, Term::Load { .. });
        program.terms.iter().enumerate().filter(computed).try_for_each(|(index, _)| self.compute(program, index))
    }

    /// Writes a load at a position, with zero where the condition (if any) does not hold, as `t<index>`.
    fn load(&mut self, index: usize, array: Option<&Array>, dtype: DType, at: &str, inside: &str) {
        let ty = dtype.wgsl();
        let value = match array {
            None => at.to_owned(),
            Some(array) if dtype == DType::F16 => {
                functions::declare_halves(&mut self.functions);
                let word = Self::element(array, &format!("({at}) / 2u"), "u32");
                format!("from_half({word} >> (({at}) % 2u * 16u))")
            }
            Some(array) => Self::element(array, at, ty),
        };
        if inside.is_empty() {
            self.line(format!("let t{index} = {value};"));
        } else {
            self.line(format!("var t{index} = {};", functions::zero(dtype)));
            self.line(format!("if ({inside}) {{ t{index} = {value}; }}"));
        }
    }

    /// The array that a load reads; `None` for positions. Adds the words before the value to the layout's offset.
    fn source(
        &mut self,
        source: Source,
        dtype: DType,
        layout: &mut Layout,
        locate: Locate<'_>,
    ) -> Result<Option<Array>> {
        let Source::Value(id) = source else { return Ok(None) };
        let (range, shift) = locate(id)?;
        layout.offset += if dtype == DType::F16 { 2 * shift as isize } else { shift as isize };
        Ok(Some(self.bind(range, dtype.wgsl())))
    }

    /// Writes the reads of a group at the index of its space.
    pub(super) fn read(&mut self, loads: &mut Loads, space: &index::Space, locate: Locate<'_>) -> Result<()> {
        let mut arrays = Vec::with_capacity(loads.len());
        for (_, source, dtype, layout) in loads.iter_mut() {
            arrays.push(self.source(*source, *dtype, layout, locate)?);
        }
        let walking: Vec<(usize, &Layout)> = loads.iter().map(|(term, .., layout)| (*term, layout)).collect();
        let positions = self.positions(space, &walking)?;
        for (((term, _, dtype, layout), array), position) in loads.iter().zip(&arrays).zip(&positions) {
            let offset = self.param(format!("offset{term}"), "u32", Word::signed(layout.offset));
            let at = if position.addends.is_empty() { offset } else { format!("{offset} + {}", position.sum()) };
            self.load(*term, array.as_ref(), *dtype, &at, &position.inside());
        }
        Ok(())
    }

    /// Writes the declarations of what was bound.
    fn declare_bindings(&self, text: &mut String) {
        for (i, (_, ty)) in self.bindings.iter().enumerate() {
            let n = self.bound + i + 1;
            let _ = writeln!(text, "@group(0) @binding({n}) var<storage, read_write> b{n}: array<{ty}>;");
        }
        text.push('\n');
    }

    /// The whole text. `declarations` come before `main`, `prologue` is its beginning.
    fn finish(self, comment: &str, declarations: &str) -> (String, Vec<Word>, Vec<Range>) {
        let mut text = format!("// {comment}\n\nstruct Params {{\n");
        for (name, ty, _) in &self.params {
            let _ = writeln!(text, "    {name}: {ty},");
        }
        text.push_str("}\n\n@group(0) @binding(0) var<uniform> p: Params;\n");
        self.declare_bindings(&mut text);
        text.push_str(if self.pairs { shared::PAIRS } else { "" });
        functions::write(&self.functions, &mut text);
        text.push_str(declarations);
        text.push_str(MAIN);
        text.push_str(if self.subgroups { SUBGROUP } else { "" });
        text.push_str(") {\n");
        text.push_str(&self.body);
        text.push_str("}\n");
        let words = self.params.into_iter().map(|(_, _, w)| w).collect();
        (text, words, self.bindings.into_iter().map(|(r, _)| r).collect())
    }
}

/// Loads by the number of their term.
type Loads = Vec<(usize, Source, DType, Layout)>;

/// The loads of a program, with their layouts.
fn loads(program: &Program) -> Loads {
    let terms = program.terms.iter().enumerate();
    terms
        .filter_map(|(i, t)| match t {
            Term::Load { source, dtype, layout } => Some((i, *source, *dtype, layout.clone())),
            _ => None,
        })
        .collect()
}

/// A struct of this name with a program's results, `r0`, `r1`, .., and the expression that makes it.
fn results(name: &str, program: &Program) -> Result<(String, String)> {
    let (mut fields, mut values) = (Vec::new(), Vec::new());
    for r in 0..program.results.len() {
        let (term, dtype) = result(program, r)?;
        fields.push(format!("r{r}: {}", dtype.wgsl()));
        values.push(format!("t{term}"));
    }
    let declared = format!("struct {name} {{ {} }}\n\n", fields.join(", "));
    Ok((declared, format!("{name}({})", values.join(", "))))
}

/// The dtype of a program's result.
fn result(program: &Program, r: usize) -> Result<(usize, DType)> {
    let term = program.results.get(r).copied().filter(|&t| t < program.terms.len());
    let term = term.ok_or_else(|| Error::internal("codegen", format!("no result {r}")))?;
    Ok((term, program.terms[term].dtype()))
}
