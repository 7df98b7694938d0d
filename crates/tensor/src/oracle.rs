//! The oracle: walks a graph node by node in f64. It shares nothing with planner or engines, so it checks fusion,
//! memory layout and kernels alike. Slow.

use std::collections::HashMap;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Call, In, Out};
use crate::tensor::Tensor;

/// Values of the oracle.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// f32 tensors, in double precision.
    Real(Vec<f64>),
    /// u32, i32 (as bits) and bool tensors.
    Word(Vec<u32>),
    /// f16 tensors.
    Half(Vec<half::f16>),
}

impl Data {
    /// As real numbers; empty for words.
    pub fn real(&self) -> &[f64] {
        match self {
            Data::Real(x) => x,
            _ => &[],
        }
    }
    /// As words; empty for real numbers.
    pub fn word(&self) -> &[u32] {
        match self {
            Data::Word(x) => x,
            _ => &[],
        }
    }
}

/// The value of `t` in f64. `given` replaces leaves by values of higher precision (for numeric gradients).
pub fn evaluate(t: &Tensor, given: &[(Tensor, Vec<f64>)]) -> Result<Data> {
    let mut done: HashMap<u64, Vec<Data>> = HashMap::new();
    for (leaf, value) in given {
        done.insert(leaf.node.id, vec![Data::Real(value.clone())]);
    }
    let mut stack = vec![(t.clone(), false)];
    while let Some((t, ready)) = stack.pop() {
        if done.contains_key(&t.node.id) {
            continue;
        }
        let Some((op, inputs)) = t.recipe() else {
            // All outputs: another input may be another output of the same node.
            let outs = (0..t.node.specs.len()).map(|out| leaf(&Tensor { node: t.node.clone(), out }));
            done.insert(t.node.id, outs.collect::<Result<_>>()?);
            continue;
        };
        if !ready {
            stack.push((t, true));
            stack.extend(inputs.into_iter().map(|i| (i, false)));
            continue;
        }
        let in_specs: Vec<_> = inputs.iter().map(|i| i.spec().clone()).collect();
        let out_specs = &t.node.specs;
        let mut outs: Vec<Data> = out_specs
            .iter()
            .map(|s| match s.dtype {
                DType::F32 => Data::Real(vec![0.0; s.numel()]),
                DType::F16 => Data::Half(vec![half::f16::ZERO; s.numel()]),
                _ => Data::Word(vec![0; s.numel()]),
            })
            .collect();
        let value = |i: usize| -> &Data { &done[&inputs[i].node.id][inputs[i].out] };
        for &(i, o) in op.in_place() {
            outs[o] = value(i).clone();
        }
        let ins = (0..inputs.len())
            .map(|i| match (op.in_place().iter().find(|p| p.0 == i), value(i)) {
                (Some(p), _) => In::InPlace(p.1),
                (None, Data::Real(x)) => In::Real(x.as_slice()),
                (None, Data::Word(x)) => In::Word(x),
                (None, Data::Half(x)) => In::Half(x),
            })
            .collect();
        let slots = outs
            .iter_mut()
            .map(|o| match o {
                Data::Real(x) => Out::Real(x.as_mut_slice()),
                Data::Word(x) => Out::Word(x),
                Data::Half(x) => Out::Half(x),
            })
            .collect();
        op.reference64(&mut Call { ins, outs: slots, in_specs: &in_specs, out_specs });
        done.insert(t.node.id, outs);
    }
    done.remove(&t.node.id)
        .and_then(|mut outs| (t.out < outs.len()).then(|| outs.swap_remove(t.out)))
        .ok_or_else(|| Error::internal("oracle", "no value"))
}

fn leaf(t: &Tensor) -> Result<Data> {
    Ok(match t.dtype() {
        DType::F32 => Data::Real(t.to_vec::<f32>()?.into_iter().map(f64::from).collect()),
        DType::F16 => Data::Half(t.to_vec()?),
        DType::I32 => Data::Word(t.to_vec::<i32>()?.into_iter().map(|x| x as u32).collect()),
        DType::U32 | DType::Bool => Data::Word(t.to_vec()?),
    })
}
