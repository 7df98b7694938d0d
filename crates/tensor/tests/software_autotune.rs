//! Choosing between ways to launch an op, on a software adapter: the fastest that agrees is taken and remembered, what
//! differs is out, and nothing is timed where nobody asked.

#![allow(clippy::unwrap_used, clippy::panic)]

mod adapter;

use std::path::Path;

use acclimate_shaders::Shader;
use acclimate_tensor::device::Autotune;
use acclimate_tensor::op::{Bind, Call, Launch, Launches};
use acclimate_tensor::{Caps, Device, DeviceOptions, Kernel, Real, Result, Spec, Tensor, record_one};

/// y = 2x; `work` is what the loop does, which the compiler cannot leave out.
macro_rules! twice {
    ($name:literal, $work:literal, $of:literal) => {
        Shader::new(
            $name,
            "test",
            concat!(
                "struct Params { n: u32, loops: u32 }\n@group(0) @binding(0) var<uniform> p: Params;\n",
                "@group(0) @binding(1) var<storage, read_write> x: array<f32>;\n",
                "@group(0) @binding(2) var<storage, read_write> y: array<f32>;\n",
                "@compute @workgroup_size(256)\n",
                "fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) thread: u32) {\n",
                "    let i = wid.x * 256u + thread;\n    if (i >= p.n) { return; }\n    var a = 0.0;\n    ",
                $work,
                "\n    y[i] = ",
                $of,
                ";\n}\n"
            ),
            2,
            [256, 1, 1],
            2,
        )
    };
}

static SLOW: Shader = twice!(
    "slow",
    "for (var k = 0u; k < p.loops; k++) { a += sin(x[i] + f32(k)); }",
    "x[i] + x[i] + select(0.0, 1.0, a == 1e9)"
);
static FAST: Shader = twice!("fast", "a = x[i];", "x[i] + a");
static WRONG: Shader = twice!("wrong", "a = x[i];", "select(x[i] + a, 0.0, i == 700u)");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Twice;

impl Kernel for Twice {
    const NAME: &'static str = "twice";
    fn shape(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }
    fn reference<R: Real>(&self, call: &mut Call<'_, R>) {
        let x = call.real(0);
        call.out_real(0).iter_mut().zip(x).for_each(|(y, &x)| *y = x + x);
    }
    fn launch(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Launches> {
        Ok(way(&SLOW, inputs))
    }
    fn alternatives(&self, inputs: &[Spec], _: &[Spec], _: &Caps) -> Result<Vec<Launches>> {
        Ok(vec![way(&WRONG, inputs), way(&FAST, inputs)])
    }
}

fn way(shader: &'static Shader, inputs: &[Spec]) -> Launches {
    let n = inputs[0].shape.numel();
    Launch::threads(shader, n).u32s(&[n, 3000]).bind(&[Bind::In(0), Bind::Out(0)]).into()
}

/// The shader that a device takes; its answer is right in any case.
fn taken(device: &Device) -> Option<String> {
    let x: Vec<f32> = (0..1000).map(|i| i as f32 / 7.0).collect();
    let x = Tensor::from_slice(device, &x, &[1000]).unwrap();
    let run = || record_one(Twice, &[&x])?.to_vec::<f32>();
    let y = run().unwrap();
    assert!(y.iter().enumerate().all(|(i, &y)| y == i as f32 / 7.0 * 2.0));
    let (_, profile) = device.profile(run).ok()?;
    let label = profile.launches()[0].label.clone();
    Some(label.split_once('(').unwrap().1.trim_end_matches(')').to_owned())
}

fn tuned(file: &Path) -> Option<Device> {
    adapter::open(|name| Device::open(name, DeviceOptions::default().autotune(Autotune::in_file(file))))
}

#[test]
fn the_fastest_that_agrees_is_taken_and_remembered() {
    let folder = std::env::temp_dir().join(format!("acclimate-autotune-{}", std::process::id()));
    let file = folder.join("below").join("choices");
    let Some(device) = tuned(&file) else { return };
    let Some(first) = taken(&device) else {
        println!("skipped: the adapter has no timestamps to see launches by");
        return;
    };
    assert_eq!(first, "fast");
    assert!(device.info().autotuned && device.to_string().contains("autotuned"), "{device}");
    let stats = device.stats();
    assert_eq!((stats.plans_built, stats.pipelines_compiled), (1, 1), "what was tried leaves no trace");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("acclimate choices 1\n2\t") && text.contains("Twice"), "{text}");
    assert!(text.contains(&device.info().name) && text.contains(&device.info().driver), "{text}");
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside the file");

    // A file is believed: another device takes what stands there, even the slow way.
    std::fs::write(&file, text.replace("\n2\t", "\n0\t")).unwrap();
    assert_eq!(taken(&tuned(&file).unwrap()).unwrap(), "slow");
    // What is damaged is not, and is written anew; neither is a way that does not exist.
    for damage in [text.replace("choices 1", "choices"), text.replace('\t', " "), text.replace("\n2\t", "\n7\t")] {
        std::fs::write(&file, damage).unwrap();
        assert_eq!(taken(&tuned(&file).unwrap()).unwrap(), "fast");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    // Nobody else is touched by it.
    let plain = adapter::open(Device::named).unwrap();
    assert_eq!(taken(&plain).unwrap(), "slow");
    assert!(!plain.info().autotuned && !plain.to_string().contains("autotuned"), "{plain}");
    std::fs::remove_dir_all(&folder).unwrap();
}
