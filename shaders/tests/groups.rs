//! Fused groups that a run wrote into the folder `ACCLIMATE_DUMP_WGSL` must exist in the languages of all drivers.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};

type Fail = Box<dyn std::error::Error>;

fn translate(source: &str) -> Result<(), Fail> {
    let module = naga::front::wgsl::parse_str(source)?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP | Capabilities::SHADER_INT64)
        .validate(&module)?;
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(&module, &info, &spv::Options::default(), Some(&pipeline))?;
    let options = msl::Options { lang_version: (2, 3), ..Default::default() };
    let (_, written) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())?;
    written.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>()?;
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
    let mut text = String::new();
    let written =
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default()).write(&module, &info, None)?;
    written.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

#[test]
fn every_dumped_group_translates() -> Result<(), Fail> {
    let Some(folder) = std::env::var_os("ACCLIMATE_DUMP_WGSL").filter(|f| !f.is_empty()) else {
        println!("skipped: ACCLIMATE_DUMP_WGSL names no folder");
        return Ok(());
    };
    let mut n = 0;
    for file in std::fs::read_dir(&folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            translate(&std::fs::read_to_string(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
            n += 1;
        }
    }
    assert!(n > 0, "no group in {}", folder.display());
    println!("{n} groups");
    Ok(())
}
