//! Every shader must also exist in the languages of the other drivers: naga writes SPIR-V, MSL and HLSL.

use acclimate_shaders::Shader;
use acclimate_shaders::shaders::ALL;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

type Fail = Box<dyn std::error::Error>;

fn load(source: &str) -> Result<(naga::Module, ModuleInfo), Fail> {
    let module = naga::front::wgsl::parse_str(source)?;
    let optional = Capabilities::SUBGROUP | Capabilities::SHADER_INT64 | Capabilities::SHADER_FLOAT16;
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | optional | Capabilities::COOPERATIVE_MATRIX;
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module)?;
    Ok((module, info))
}

/// Every text that a driver may get: the build has seen to it that the plain ones need nothing optional.
fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().flat_map(|s| [Some((s.name, s.source)), s.subgroup.map(|text| (s.name, text))]).flatten()
}

#[test]
fn twins_use_subgroups_and_no_other_shader_does() {
    let mut n = 0;
    for shader in ALL {
        assert!(!shader.source.contains("subgroupAdd"), "{}", shader.name);
        assert_eq!(shader.text(false), shader.source);
        if let Some(twin) = shader.subgroup {
            assert!(twin.contains("subgroupAdd") && shader.text(true) == twin, "{}", shader.name);
            n += 1;
        }
    }
    assert!(n >= 4, "{n} twins");
}

#[test]
fn table_is_complete_and_sound() -> Result<(), Fail> {
    let mut on_disk = 0;
    for folder in std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))? {
        let folder = folder?;
        if folder.file_name() != "shared" && folder.path().is_dir() {
            for file in std::fs::read_dir(folder.path())? {
                on_disk += usize::from(file?.path().extension().is_some_and(|e| e == "wgsl"));
            }
        }
    }
    let of = |shader: &&'static Shader| [shader.half, shader.short, shader.narrow, shader.wide, shader.eight];
    let variants: Vec<_> = ALL.iter().flat_map(of).flatten().collect();
    assert_eq!(ALL.len(), on_disk + variants.len());
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))?;
    for shader in ALL {
        let named = readme.contains(&format!("`{}`", shader.name)) || variants.contains(shader);
        assert!(named, "README.md does not name {}", shader.name);
        assert_eq!(acclimate_shaders::find(shader.name), Some(*shader));
        assert!((1..=8).contains(&shader.n_storage) && shader.n_params > 0, "{}", shader.name);
        assert!(shader.workgroup.iter().product::<u32>() <= 256, "{}", shader.name);
    }
    Ok(())
}

#[test]
fn shared_parts_stand_together() -> Result<(), Fail> {
    use acclimate_shaders::shared::{BITS, EXP, HALF, INDEX, PAIRS, PHILOX, REDUCE};
    load(&[INDEX, BITS, EXP, HALF, PAIRS, PHILOX, REDUCE].concat()).map(|_| ())
}

#[test]
fn every_shader_is_spirv() -> Result<(), Fail> {
    for (name, source) in texts() {
        let (module, info) = load(source)?;
        let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
        let words = spv::write_vec(&module, &info, &spv::Options::default(), Some(&pipeline))?;
        assert_eq!(words.first(), Some(&0x0723_0203), "{}", name);
    }
    Ok(())
}

#[test]
fn every_shader_is_msl() -> Result<(), Fail> {
    for (name, source) in texts() {
        let (module, info) = load(source)?;
        let options = msl::Options { lang_version: (2, 3), ..Default::default() };
        let (text, entries) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())?;
        assert!(text.contains("kernel void"), "{}", name);
        assert!(entries.entry_point_names.iter().all(|name| name.is_ok()), "{}: {entries:?}", name);
    }
    Ok(())
}

#[test]
fn every_shader_is_hlsl() -> Result<(), Fail> {
    // DX12 has no cooperative matrices in wgpu.
    for (name, source) in texts().filter(|(_, source)| !source.contains("wgpu_cooperative_matrix")) {
        let (module, info) = load(source)?;
        let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
        let pipeline = hlsl::PipelineOptions::default();
        let mut text = String::new();
        let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None)?;
        assert!(written.entry_point_names.iter().all(|name| name.is_ok()), "{}: {written:?}", name);
        assert!(text.contains("[numthreads("), "{}", name);
    }
    Ok(())
}
