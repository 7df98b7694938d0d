//! Compiles every shader on the first Vulkan device and prints what its driver says of the result: registers, spills, how many
//! threads a multiprocessor holds, instructions. Nothing runs, so the device need not be there: `ci/newest_mesa` stands in for
//! AMD's, NVIDIA's, Qualcomm's and Apple's.
//!
//! `compilers [--text] [NAME..]` takes the shaders with one of these words in their names, and files that end in `.wgsl` (such as
//! `ACCLIMATE_DUMP_WGSL` leaves); `--text` prints the compiler's own texts too, down to the machine code, for `loops.py`.
//! The exit status is 1 if a shader was refused.

mod driver;

use acclimate_shaders::shaders::ALL;
use anyhow::{Context, Result, anyhow};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// As the wgpu engine has it made on a driver with robust buffers: places in workgroup memory are kept inside, loops are not
/// counted, workgroup memory is not cleared.
fn spirv(source: &str) -> Result<Vec<u32>> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| anyhow!(e.emit_to_string(source)))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module)?;
    let free = BoundsCheckPolicy::Unchecked;
    let index = BoundsCheckPolicy::Restrict;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies { index, buffer: free, image_load: free, binding_array: free },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    let entry = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    Ok(spv::write_vec(&module, &info, &options, Some(&entry))?)
}

/// Name and text of each shader that was asked for.
fn wanted(words: &[String]) -> Result<Vec<(String, String)>> {
    let (files, words): (Vec<&String>, Vec<&String>) = words.iter().partition(|w| w.ends_with(".wgsl"));
    let mut found = Vec::new();
    for shader in ALL.iter().filter(|s| words.iter().any(|w| s.name.contains(*w)) || (words.is_empty() && files.is_empty())) {
        found.push((shader.name.to_owned(), shader.source.to_owned()));
        found.extend(shader.subgroup.map(|twin| (format!("{} with subgroups", shader.name), twin.to_owned())));
    }
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file).to_owned();
        found.push((name, std::fs::read_to_string(file).with_context(|| file.clone())?));
    }
    Ok(found)
}

fn main() -> Result<()> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let text = match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--text"] => true,
        _ => anyhow::bail!("options are --text, not {}", flags.join(" ")),
    };
    let driver = driver::Driver::open()?;
    println!("{}", driver.name());
    let mut refused = 0;
    for (name, source) in wanted(&words)? {
        if let Some(word) = driver.lacks(&source) {
            println!("{name}: left out, the device has no {word}");
            continue;
        }
        match spirv(&source).and_then(|words| driver.compile(&words, text)) {
            Ok(said) => println!("{name}: {said}"),
            Err(error) => {
                refused += 1;
                println!("{name}: refused: {error:#}");
            }
        }
    }
    anyhow::ensure!(refused == 0, "{refused} shaders were refused");
    Ok(())
}
