//! Cases of the primitives that `acclimate-tensor` brings: element-wise functions, views, reductions, constants.

use acclimate_tensor::expr::Func;
use acclimate_tensor::{DType, Tensor};

use super::case::{Case, Order, Scale, Tolerance};
use super::values::{Input, ODD_SIZES, Values};

/// Cases of every element-wise function, view and reduction.
pub fn core_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &func in Func::ALL {
        cases.extend(functions(func));
    }
    cases.extend(sizes());
    cases.extend(views());
    cases.extend(halves());
    cases.extend(reductions());
    cases
}

/// Where a function is tried, how often it may be differentiated, and how exact a GPU has to be.
struct Facts {
    inputs: [Values; 2],
    order: Order,
    cpu: Tolerance,
    gpu: Tolerance,
}

/// The table. A function that is not in it is tried on values without ties, and has to be exact.
fn facts(func: Func) -> Facts {
    let all = |values: Values| [values.clone(), values];
    let fixed = |k: f64| Tolerance { k, depth: 1.0, scale: Scale::Fixed(1.0) };
    // Processors: the standard library's functions are within 1 ulp; 4 leaves room for a formula around one.
    let cpu = Tolerance::ulps(4.0);
    let smooth = |inputs, gpu| Facts { inputs, order: Order::Second, cpu, gpu };
    let uniform = |low, high| all(Values::Uniform(low, high));
    // GPUs: the accuracy table of WGSL (section "Accuracy of concrete floating point expressions").
    match func {
        // exp: 3 + 2·|x| ulp, |x| ≤ 10.
        Func::Exp => smooth(uniform(-10.0, 10.0), Tolerance::ulps(23.0)),
        // exp once, a sum and a quotient of 2.5 ulp.
        Func::Sigmoid => smooth(uniform(-10.0, 10.0), Tolerance::ulps(27.0)),
        // exp (9 ulp at 3) minus 1: the difference is at least a quarter of the larger operand beyond |x| = 0.3.
        Func::Expm1 => smooth(uniform(-3.0, 3.0), Tolerance::ulps(40.0)),
        // log: 2⁻²¹ absolute in [0.5, 2], 3 ulp of up to 2.3 elsewhere.
        Func::Ln => smooth(uniform(0.1, 10.0), fixed(20.0)),
        // 1 + x rounds, up to 10 times as large in the logarithm at x = −0.9.
        Func::Log1p => smooth(uniform(-0.9, 3.0), fixed(30.0)),
        // inverseSqrt: 2 ulp; sqrt is its reciprocal, of 2.5 ulp more.
        Func::Sqrt => smooth(uniform(0.1, 10.0), Tolerance::ulps(4.5)),
        Func::Rsqrt => smooth(uniform(0.1, 10.0), Tolerance::ulps(2.0)),
        // Quotients: 2.5 ulp.
        Func::Recip => smooth(uniform(0.3, 5.0), Tolerance::ulps(2.5)),
        Func::Div => smooth([Values::Normal, Values::Uniform(0.3, 5.0)], Tolerance::ulps(2.5)),
        // sin, cos: 2⁻¹¹ absolute between −π and π.
        Func::Sin | Func::Cos => smooth(uniform(-3.1, 3.1), fixed(8192.0)),
        // exp of −2·|x|, at most 7 ulp of at most 0.74, in numerator and denominator, and a quotient.
        Func::Tanh => smooth(uniform(-4.0, 4.0), fixed(32.0)),
        // The approximation is within 1.2·10⁻⁷, and its exp within 12 ulp of at most 0.48.
        Func::Erf => smooth(uniform(-3.0, 3.0), fixed(16.0)),
        // exp2(b · log2 a): log2 is off by 2⁻²¹ times |b| ≤ 3, exp2 by 3 + 2·|b · log2 a| ulp, that is at most 17.
        Func::Pow => smooth([Values::Uniform(0.2, 4.0), Values::Uniform(-3.0, 3.0)], Tolerance::ulps(40.0)),
        Func::Sign | Func::Floor | Func::Ceil | Func::Round | Func::Detach => {
            Facts { inputs: all(Values::Distinct), order: Order::None, cpu: Tolerance::EXACT, gpu: Tolerance::EXACT }
        }
        // Two draws without ties may still meet each other.
        Func::Max | Func::Min => {
            Facts { inputs: all(Values::Normal), order: Order::Second, cpu: Tolerance::EXACT, gpu: Tolerance::EXACT }
        }
        // Sums and products are rounded correctly.
        Func::Add | Func::Sub | Func::Mul => Facts {
            inputs: all(Values::Normal),
            order: Order::Second,
            cpu: Tolerance::ulps(0.5),
            gpu: Tolerance::ulps(0.5),
        },
        _ => {
            Facts { inputs: all(Values::Distinct), order: Order::Second, cpu: Tolerance::EXACT, gpu: Tolerance::EXACT }
        }
    }
}

fn functions(func: Func) -> Vec<Case> {
    let mut cases = Vec::new();
    let (name, arity) = (func.name(), func.arity());
    let map = move |t: &[Tensor]| Ok(vec![Tensor::map(func, &t.iter().collect::<Vec<_>>())?]);
    let reals = vec![DType::F32; arity];
    let f = facts(func);
    if let Ok(result) = func.dtype(&reals) {
        let order = if result == DType::F32 { f.order } else { Order::None };
        let inputs: Vec<Input> = (0..arity).map(|i| Input::new(&[3, 11], f.inputs[i % 2].clone())).collect();
        cases.push(Case::new(format!("{name} of f32"), inputs, map).tolerance(f.cpu).gpu_tolerance(f.gpu).order(order));
        // Shading languages let a compiler assume that there are neither NaN nor infinities.
        let edges = vec![0.0, -0.0, 0.5, -0.5, 1.5, 2.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-20, 3e38];
        let inputs: Vec<Input> = (0..arity)
            .map(|i| Input::new(&[110], Values::List(if i == 0 { edges.clone() } else { edges[..10].to_vec() })))
            .collect();
        cases.push(
            Case::new(format!("{name} at the edges"), inputs, map)
                .tolerance(f.cpu)
                .order(Order::None)
                .unbatched()
                .cpu_only(),
        );
    }
    let words = vec![DType::U32; arity];
    if func.dtype(&words).is_ok() {
        let inputs: Vec<Input> = (0..arity).map(|_| Input::index(&[3, 11], 40)).collect();
        cases.push(Case::new(format!("{name} of u32"), inputs, map).order(Order::None));
    }
    if func.dtype(&vec![DType::I32; arity]).is_ok() {
        let inputs: Vec<Input> = (0..arity).map(|_| Input::uniform(&[3, 11], -20.0, 20.0)).collect();
        let map = move |t: &[Tensor]| {
            let t = t.iter().map(|t| t.cast(DType::I32)).collect::<Result<Vec<_>, _>>()?;
            Ok(vec![Tensor::map(func, &t.iter().collect::<Vec<_>>())?])
        };
        cases.push(Case::new(format!("{name} of i32"), inputs, map).order(Order::None));
    }
    if func.dtype(&vec![DType::Bool; arity]).is_ok() {
        let inputs: Vec<Input> = (0..arity).map(|_| Input::new(&[3, 11], Values::Bool(0.4))).collect();
        cases.push(Case::new(format!("{name} of bool"), inputs, map).order(Order::None));
    }
    if func.dtype(&[DType::Bool, DType::F32, DType::F32]).is_ok() {
        let condition = Input::new(&[3, 11], Values::Bool(0.5));
        let inputs = [condition, Input::normal(&[3, 11]), Input::normal(&[3, 11])];
        cases.push(Case::new(format!("{name} by bool"), inputs, map));
    }
    cases
}

/// A fused group at every awkward size, and shapes that broadcast.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    // A product and a sum: each rounds once, at most half an ulp of the sum of the absolute terms.
    let tolerance = Tolerance { k: 2.0, depth: 1.0, scale: Scale::Magnitude };
    for n in ODD_SIZES {
        let build = |t: &[Tensor]| Ok(vec![t[0].mul(&t[1])?.add(&t[0])?]);
        let inputs = [Input::normal(&[n]), Input::normal(&[n])];
        cases.push(Case::new(format!("x·y + x of {n}"), inputs, build).tolerance(tolerance));
    }
    for (a, b) in [(&[3, 1, 7][..], &[5, 1][..]), (&[], &[5]), (&[2, 3], &[3]), (&[7, 1], &[1, 11])] {
        let build = |t: &[Tensor]| Ok(vec![t[0].mul(&t[1])?.add(&t[0])?]);
        let inputs = [Input::normal(a), Input::normal(b)];
        cases.push(Case::new(format!("{a:?} broadcast against {b:?}"), inputs, build).tolerance(tolerance));
    }
    let counted = |t: &[Tensor]| {
        let steps = Tensor::iota(t[0].device(), &[3, 11], 1)?.cast(DType::F32)?;
        Ok(vec![t[0].mul(&steps)?.add(&t[0].full_like(1.0)?)?])
    };
    cases.push(Case::new("x·i + 1", [Input::normal(&[3, 11])], counted).tolerance(
        // As above, but 1 is no term of an input: near x·i = −1 it is the larger one.
        Tolerance { k: 2.0, depth: 1.0, scale: Scale::Fixed(50.0) },
    ));
    cases
}

fn views() -> Vec<Case> {
    type View = fn(&Tensor) -> acclimate_tensor::Result<Tensor>;
    let rows: [(&str, View); 10] = [
        ("reshape", |x| x.reshape(&[7, 15])),
        ("permute", |x| x.permute(&[2, 0, 1])),
        ("permute, then reshape", |x| x.permute(&[2, 1, 0])?.reshape(&[35, 3])),
        ("expand", |x| x.unsqueeze(1)?.expand(&[3, 2, 5, 7])),
        ("narrow", |x| x.narrow(1, 1, 3)),
        ("slice with steps both ways", |x| x.strided_slice(&[2, 0, 6], &[-1, 2, -3], &[3, 3, 3])),
        ("flip", |x| x.flip(2)),
        ("pad", |x| x.pad(&[(1, 0), (0, 2), (3, 1)])),
        ("pad between", |x| x.pad_strided(&[1, 0, 2], &[2, 1, 3], &[6, 5, 23])),
        ("pad of a slice of a transpose", |x| x.transpose(0, 2)?.narrow(0, 2, 4)?.pad(&[(1, 2), (0, 0), (0, 1)])),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, view) in rows {
        // Only moved, so the same bits.
        let build = move |t: &[Tensor]| Ok(vec![view(&t[0])?]);
        cases.push(Case::new(name, [Input::distinct(&[3, 5, 7])], build));
        // Read through by a group, twice.
        let build = move |t: &[Tensor]| Ok(vec![view(&t[0])?.mul(&view(&t[0])?)?]);
        let tolerance = Tolerance::ulps(0.5);
        cases.push(Case::new(format!("{name}, squared"), [Input::normal(&[3, 5, 7])], build).tolerance(tolerance));
    }
    let build = |t: &[Tensor]| Ok(vec![Tensor::assemble(&[&t[0], &t[1]], &[2, 9], 19)?]);
    cases.push(Case::new("assemble", [Input::distinct(&[5]), Input::distinct(&[7])], build));
    let build = |t: &[Tensor]| Ok(vec![t[0].narrow(0, 0, 64)?.mul(&t[0].narrow(0, 64, 64)?)?]);
    cases.push(Case::new("slices of one arena", [Input::normal(&[192])], build).tolerance(Tolerance::ulps(0.5)));
    cases
}

/// Halves in memory: rounding, views of them, groups and sums that read them.
fn halves() -> Vec<Case> {
    let half = |t: &Tensor| t.cast(DType::F16);
    let there = move |t: &[Tensor]| Ok(vec![half(&t[0])?]);
    let back = move |t: &[Tensor]| Ok(vec![half(&t[0])?.cast(DType::F32)?]);
    let mut cases = Vec::new();
    for n in ODD_SIZES {
        cases.push(Case::new(format!("{n} halves"), [Input::normal(&[n])], there).order(Order::None));
        // Rounding counts as the identity, and the gradient is rounded too.
        cases.push(Case::new(format!("{n} halves and back"), [Input::normal(&[n])], back).order(Order::Rounded));
    }
    let edges = vec![65504.0, 65519.0, 65520.0, -1e9, 2049.0, 2051.0, 6e-8, 3e-8, 2.98e-8, 1e-5, 0.1, -0.0, 6.1e-5];
    let edges = [Input::new(&[13], Values::List(edges))];
    cases.push(Case::new("halves: ties, the smallest, the largest", edges.clone(), there).order(Order::None));
    cases.push(Case::new("halves and back: ties, the smallest, the largest", edges, back).order(Order::None));
    let odd = [Input::new(&[3], Values::List(vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN]))];
    cases.push(Case::new("halves: infinities and NaN", odd, there).order(Order::None));
    type View = fn(&Tensor) -> acclimate_tensor::Result<Tensor>;
    let rows: [(&str, View); 7] = [
        ("reshape", |x| x.reshape(&[7, 15])),
        ("permute", |x| x.permute(&[2, 0, 1])),
        ("expand", |x| x.unsqueeze(1)?.expand(&[3, 2, 5, 7])),
        ("narrow", |x| x.narrow(0, 1, 2)),
        ("slice with steps both ways", |x| x.strided_slice(&[2, 0, 6], &[-1, 2, -3], &[3, 3, 3])),
        ("pad", |x| x.pad(&[(1, 0), (0, 2), (3, 1)])),
        ("pad between", |x| x.pad_strided(&[1, 0, 2], &[2, 1, 3], &[6, 5, 23])),
    ];
    for (name, view) in rows {
        let build = move |t: &[Tensor]| Ok(vec![view(&half(&t[0])?)?]);
        cases.push(Case::new(format!("{name} of halves"), [Input::normal(&[3, 5, 7])], build).order(Order::None));
        let build = move |t: &[Tensor]| Ok(vec![view(&half(&t[0])?)?.cast(DType::F32)?.mul_scalar(0.5)?]);
        let case = Case::new(format!("half of {name} of halves"), [Input::normal(&[3, 5, 7])], build);
        cases.push(case.order(Order::Rounded));
    }
    for axes in [&[0][..], &[-1], &[0, 2], &[]] {
        let sum = move |t: &[Tensor]| Ok(vec![half(&t[0])?.cast(DType::F32)?.sum(axes)?]);
        let case = Case::new(format!("sum of halves over {axes:?}"), [Input::normal(&[3, 5, 7])], sum);
        cases.push(case.tolerance(Tolerance::sum(105)).order(Order::Rounded));
    }
    cases
}

fn reductions() -> Vec<Case> {
    let mut cases = Vec::new();
    let axes: [&'static [isize]; 5] = [&[], &[-1], &[0], &[1], &[0, 2]];
    for axes in axes {
        let n = axes.iter().map(|&a| [3, 5, 7][a.rem_euclid(3) as usize]).product::<usize>();
        let n = if axes.is_empty() { 105 } else { n };
        let x = || [Input::normal(&[3, 5, 7])];
        let sum = move |t: &[Tensor]| Ok(vec![t[0].sum(axes)?]);
        cases.push(Case::new(format!("sum over {axes:?}"), x(), sum).tolerance(Tolerance::sum(n)));
        let kept = move |t: &[Tensor]| Ok(vec![t[0].mul(&t[0])?.sum_keep(axes)?.mul(&t[0])?]);
        // The terms are squares, and the sum is multiplied once more.
        cases.push(Case::new(format!("x·Σx² over {axes:?}"), x(), kept).tolerance(Tolerance::sum(n + 2)));
        let largest = move |t: &[Tensor]| Ok(vec![t[0].max(axes)?, t[0].min_keep(axes)?]);
        cases.push(Case::new(format!("max and min over {axes:?}"), [Input::distinct(&[3, 5, 7])], largest));
        let product = move |t: &[Tensor]| Ok(vec![t[0].prod(axes)?]);
        // One rounding for each factor.
        let tolerance = Tolerance { k: 1.0, depth: n as f64, scale: Scale::Output };
        let x = [Input::uniform(&[3, 5, 7], 0.7, 1.4)];
        cases.push(Case::new(format!("prod over {axes:?}"), x, product).tolerance(tolerance));
        let words = move |t: &[Tensor]| Ok(vec![t[0].sum(axes)?, t[0].max(axes)?]);
        cases.push(
            Case::new(format!("sum and max of u32 over {axes:?}"), [Input::index(&[3, 5, 7], 90)], words)
                .order(Order::None),
        );
    }
    let nothing = |t: &[Tensor]| Ok(vec![t[0].sum(&[1])?, t[0].max(&[1])?, t[0].prod(&[1])?, t[0].sum(&[0])?]);
    cases.push(Case::new("reductions of nothing", [Input::normal(&[3, 0])], nothing).order(Order::None));
    for n in ODD_SIZES {
        let build = |t: &[Tensor]| Ok(vec![t[0].sum(&[-1])?, t[0].sum(&[0])?]);
        cases.push(
            Case::new(format!("sums of 2 × {n}"), [Input::normal(&[2, n])], build).tolerance(Tolerance::sum(n.max(2))),
        );
    }
    cases
}
