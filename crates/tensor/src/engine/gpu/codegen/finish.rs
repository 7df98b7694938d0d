//! What is fused into the results of a step, as the function `finish`: from a result's place and what the step made there to what
//! is stored.

use acclimate_shaders::Shader;
use acclimate_shaders::shared::FINISH;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::layout::{Layout, collapse};
use crate::plan::{Finish, Source};

use super::index::Space;
use super::{Loads, Locate, Writer, functions, loads, result, results};
use crate::engine::gpu::launch::{Memory, Range, Word};

/// What the names of a group's parameters begin with: those of the step are beside them.
const PREFIX: &str = "finish_";

impl Writer {
    /// Declares `finish`; what a step made is handed to it in the order of its numbers. Several results are fields `r0`, `r1`, ..
    /// of what it returns.
    pub(super) fn finish_function(&mut self, finish: &Finish, made: &[DType], locate: Locate<'_>) -> Result<String> {
        let (body, depth) = (std::mem::take(&mut self.body), std::mem::take(&mut self.depth));
        let prefix = std::mem::replace(&mut self.prefix, PREFIX);
        let (own, mut loads): (Loads, Loads) =
            loads(&finish.program).into_iter().partition(|(_, source, ..)| matches!(source, Source::Made(_)));
        for (term, source, ..) in own {
            let Source::Made(k) = source else { continue };
            self.line(format!("let t{term} = m{k};"));
        }
        let mut layouts: Vec<&mut Layout> = loads.iter_mut().map(|(.., l)| l).collect();
        let (dims, _) = collapse(&finish.dims, &vec![false; finish.dims.len()], &mut layouts);
        let space = Space { linear: "at", axes: dims.iter().copied().enumerate().collect() };
        self.read(&mut loads, &space, locate)?;
        self.compute_all(&finish.program)?;
        let arguments: Vec<String> = made.iter().enumerate().map(|(k, d)| format!(", m{k}: {}", d.wgsl())).collect();
        let (declared, ty, value) = match finish.program.results.len() {
            1 => {
                let (term, dtype) = result(&finish.program, 0)?;
                (String::new(), dtype.wgsl(), format!("t{term}"))
            }
            _ => {
                let (declared, value) = results("Finished", &finish.program)?;
                (declared, "Finished", value)
            }
        };
        self.line(format!("return {value};"));
        (self.depth, self.prefix) = (depth, prefix);
        let body = std::mem::replace(&mut self.body, body);
        Ok(format!("{declared}fn finish(at: u32{}) -> {ty} {{\n{body}}}\n\n", arguments.concat()))
    }
}

/// The text of an op's shader with a group in place of its `finish`, and what is to be bound and given beside its own.
pub(in crate::engine::gpu) fn finished(
    shader: &Shader,
    text: &str,
    finish: &Finish,
    memory: Memory<'_>,
) -> Result<(String, Vec<Word>, Vec<Range>)> {
    let mut w = Writer { bound: shader.n_storage as usize, ..Writer::default() };
    let function = w.finish_function(finish, &[DType::F32], &|id| memory.value(id))?;
    let none = || Error::internal("codegen", format!("{} has no place for a group", shader.name));
    let (head, rest) = text.split_once(FINISH).ok_or_else(none)?;
    let mut source = head.to_owned();
    w.declare_bindings(&mut source);
    functions::write(&w.functions, &mut source);
    source.push_str(&function);
    source.push_str(rest);
    // The parameters go behind the shader's own.
    let end = source.find("struct Params {").and_then(|at| Some(at + source[at..].find('}')?)).ok_or_else(none)?;
    let own = source[..end].trim_end().trim_end_matches(',').len();
    let fields: String = w.params.iter().map(|(name, ty, _)| format!(",\n    {name}: {ty}")).collect();
    source.replace_range(own..end, &format!("{fields},\n"));
    let words = w.params.into_iter().map(|(_, _, word)| word).collect();
    Ok((source, words, w.bindings.into_iter().map(|(range, _)| range).collect()))
}

#[cfg(test)]
mod tests {
    use acclimate_shaders::shaders;
    use wgpu::naga::front::wgsl;
    use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::*;
    use crate::expr::Func;
    use crate::plan::{Place, Plan, Program, Root, Term, Value};
    use crate::shape::Spec;

    /// Shaders for what no adapter here has, such as cooperative matrices, are valid with a group in them too.
    #[test]
    fn null_every_shader_takes_a_group() {
        let spec = Spec::f32(&[6]).unwrap();
        let values = vec![Value { spec: spec.clone(), place: Place { root: Root::Input(0), offset: 0 } }];
        let plan = Plan {
            inputs: vec![spec],
            n_scalars: 1,
            values,
            steps: Vec::new(),
            outputs: Vec::new(),
            donated: Vec::new(),
            arenas: Vec::new(),
            copies: 0,
        };
        // The result times a value of each row, and a scalar.
        let dtype = DType::F32;
        let load = |source, strides: [isize; 2]| {
            let mut layout = Layout::contiguous(&[6, 4]);
            layout.axes.iter_mut().zip(strides).for_each(|(axis, stride)| axis.stride = stride);
            Term::Load { source, dtype, layout }
        };
        let apply = |func, args: [usize; 2]| Term::Apply { func, dtype, out: dtype, args: args.to_vec() };
        let terms = vec![
            load(Source::Made(0), [4, 1]),
            load(Source::Value(0), [1, 0]),
            apply(Func::Mul, [0, 1]),
            Term::Scalar { index: 0, dtype },
            apply(Func::Add, [2, 3]),
        ];
        let finish = Finish { dims: vec![6, 4], program: Program { terms, results: vec![4] } };
        let mut taken = 0;
        for shader in shaders::ALL.iter().filter(|s| s.can_finish()) {
            for subgroups in [false, true] {
                let memory = Memory { plan: &plan, alignment: 256 };
                let (text, words, ranges) = finished(shader, shader.text(subgroups), &finish, memory).unwrap();
                assert_eq!(ranges.len(), 1);
                assert!(words.contains(&Word::Scalar(0)), "{}", shader.name);
                let module = wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
                let valid = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
                assert!(valid.is_ok(), "{}: {valid:?}\n{text}", shader.name);
            }
            taken += 1;
        }
        // Products, tiled in three sizes, small, on cooperative matrices, and convolutions, of words and of halves.
        assert!(taken >= 20, "{taken}");
    }
}
