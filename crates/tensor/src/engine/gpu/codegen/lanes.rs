//! How the lanes of a reduction's output combine what each has, and the stores.

use crate::dtype::DType;
use crate::engine::gpu::launch::{Range, Word};
use crate::error::Result;
use crate::op::Reduction;

use super::reduce::{Division, Group, SUBGROUP};
use super::{Array, THREADS, Writer, result};

/// Subgroups of a workgroup at most: WGSL has none of fewer than 4 threads.
const MAX_SUBGROUPS: usize = THREADS / 4;

/// Where results go.
struct Stores {
    /// Array, element and type of each.
    places: Vec<(Array, String, &'static str)>,
    /// How many numbers `finish` takes, if there is one.
    finished: Option<usize>,
}

impl Stores {
    /// Writes the stores of results.
    fn write(&self, w: &mut Writer, made: &dyn Fn(usize) -> String) {
        if let Some(n) = self.finished {
            let made: Vec<String> = (0..n).map(|k| format!(", {}", made(k))).collect();
            w.line(format!("let done = finish(o{});", made.concat()));
        }
        for (i, (array, to, ty)) in self.places.iter().enumerate() {
            let value = match self.finished {
                None => made(i),
                Some(_) if self.places.len() == 1 => "done".to_owned(),
                Some(_) => format!("done.r{i}"),
            };
            w.line(Writer::store(array, to, &value, ty));
        }
    }

    /// The same under a condition.
    fn write_if(&self, w: &mut Writer, condition: &str, made: &dyn Fn(usize) -> String) {
        w.open(format!("if ({condition}) {{"));
        self.write(w, made);
        w.close();
    }
}

impl Group<'_> {
    /// Writes `whole`, what the lanes of a subgroup come to, if subgroups are to combine them, for each result.
    fn parts_of_subgroup(&self, w: &mut Writer, by: Division, dtype: DType) -> bool {
        let name = match self.kind {
            _ if !self.caps.subgroups || ![SUBGROUP, THREADS].contains(&by.lanes) => return false,
            Reduction::Sum => "Add",
            Reduction::Max => "Max",
            Reduction::Min => "Min",
            Reduction::Prod => return false,
        };
        w.subgroups = true;
        for i in 0..self.program.results.len() {
            w.line(format!("var whole{i} = subgroup{name}(total{i});"));
            if name != "Add" && dtype == DType::F32 {
                // What a driver makes of a NaN in a maximum is its own affair.
                w.line(format!("var nan{i} = 0x7fc00000u;"));
                w.open(format!("if (subgroupAny((bitcast<u32>(total{i}) & 0x7fffffffu) > 0x7f800000u)) {{"));
                w.line(format!("whole{i} = bitcast<f32>(nan{i});"));
                w.close();
            }
        }
        true
    }

    /// Writes the tree over the lanes and the stores; returns the declarations they need. `f` combines two numbers.
    pub(super) fn store(
        &self,
        w: &mut Writer,
        by: Division,
        dtype: DType,
        outs: &[(Range, usize)],
        f: &str,
    ) -> Result<String> {
        let n = self.program.results.len();
        let mut declared = String::new();
        if let Some((finish, locate)) = self.finish {
            declared = w.finish_function(finish, &vec![dtype; n], locate)?;
        }
        let mut places = Vec::with_capacity(outs.len());
        for (i, &(range, shift)) in outs.iter().enumerate() {
            let dtype = match self.finish {
                Some((finish, _)) => result(&finish.program, i)?.1,
                None => dtype,
            };
            let array = w.bind(range, dtype.wgsl());
            let offset = w.param(format!("out{i}"), "u32", Word::size(shift)?);
            places.push((array, format!("{offset} + o * p.n_chunks + chunk"), dtype.wgsl()));
        }
        let stores = Stores { places, finished: self.finish.map(|_| n) };
        let ty = dtype.wgsl();
        if by.lanes == 1 {
            stores.write_if(w, "live", &|i| format!("total{i}"));
            return Ok(declared);
        }
        let mut in_workgroup = |size: usize| {
            (0..n).for_each(|i| declared.push_str(&format!("var<workgroup> parts{i}: array<{ty}, {size}>;\n")));
        };
        if self.parts_of_subgroup(w, by, dtype) {
            if by.lanes == SUBGROUP {
                stores.write_if(w, "live && in_subgroup == 0u", &|i| format!("whole{i}"));
                return Ok(declared);
            }
            in_workgroup(MAX_SUBGROUPS);
            let each = |text: &dyn Fn(usize) -> String| (0..n).map(text).collect::<Vec<_>>().join(" ");
            w.line(format!("if (in_subgroup == 0u) {{ {} }}", each(&|i| format!("parts{i}[subgroup] = whole{i};"))));
            w.line("workgroupBarrier();");
            w.open("if (live && thread == 0u) {");
            (0..n).for_each(|i| w.line(format!("var all{i} = parts{i}[0];")));
            w.open("for (var i = 1u; i < n_subgroups; i++) {");
            (0..n).for_each(|i| w.line(format!("all{i} = {f}(all{i}, parts{i}[i]);")));
            w.close();
            stores.write(w, &|i| format!("all{i}"));
            w.close();
            return Ok(declared);
        }
        in_workgroup(THREADS);
        let apart = if by.lanes_inner { 1 } else { THREADS / by.lanes };
        (0..n).for_each(|i| w.line(format!("parts{i}[thread] = total{i};")));
        w.line("workgroupBarrier();");
        // Four at a time, in pairs: as deep as a binary tree, with half the barriers.
        w.open(format!("for (var s = {}u; s > 0u; s >>= 2u) {{", by.lanes / 4));
        w.open("if (lane < s) {");
        let step = if apart == 1 { "s".to_owned() } else { format!("s * {apart}u") };
        for i in 0..n {
            let part = |n: usize| format!("parts{i}[thread + {n}u * {step}]");
            let (low, high) = (format!("{f}({}, {})", part(0), part(1)), format!("{f}({}, {})", part(2), part(3)));
            w.line(format!("parts{i}[thread] = {f}({low}, {high});"));
        }
        w.close();
        w.line("workgroupBarrier();");
        w.close();
        stores.write_if(w, "live && lane == 0u", &|i| format!("parts{i}[thread]"));
        Ok(declared)
    }
}
