//! The shaders of every op, and the groups that are generated for the primitives, on a software adapter (or the one that
//! `ACCLIMATE_DEVICE` names) against the f64 oracle; once more with WebGPU's default limits and nothing optional.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;

use acclimate_kernels::testkit::{all_cases, check_all, conforms, rows_are_left_out, vmap_is_the_loop};
use acclimate_tensor::{Device, DeviceOptions, Tensor};

#[test]
fn shaders_conform() {
    let Some(device) = adapter::open(Device::named) else { return };
    let cases = all_cases();
    check_all(cases.iter().filter(|(_, c)| c.gpu), &device, conforms).unwrap();
}

#[test]
fn shaders_conform_with_default_limits() {
    let Some(device) = adapter::open(Device::gpu_restricted) else { return };
    let cases = all_cases();
    check_all(cases.iter().filter(|(_, c)| c.gpu), &device, conforms).unwrap();
}

/// Every other way to launch an op, where it has some: on whatever adapter the op's own would be another.
#[test]
fn every_way_conforms() {
    let cases = all_cases();
    for way in 1..=6 {
        let Some(device) = adapter::open(|name| Device::open(name, DeviceOptions::default().way(way))) else { return };
        let several = |name: &str| name == "matmul" || name.starts_with("conv2d");
        check_all(cases.iter().filter(|(op, c)| c.gpu && several(op)), &device, conforms).unwrap();
    }
}

#[test]
fn batching_rules_hold_on_shaders() {
    let Some(device) = adapter::open(Device::named) else { return };
    let cases = all_cases();
    // A quarter of them: rules are graph, and the CPU engine has been through all of them.
    let cases = cases.iter().filter(|(_, c)| c.gpu && c.batched).step_by(4);
    check_all(cases, &device, vmap_is_the_loop).unwrap();
}

#[test]
fn rows_that_nobody_reads_change_nothing() {
    let Some(device) = adapter::open(Device::named) else { return };
    let cases = all_cases();
    check_all(cases.iter().filter(|(_, c)| c.gpu).step_by(5), &device, rows_are_left_out).unwrap();
}

#[test]
fn more_workgroups_than_an_axis_holds() {
    let Some(device) = adapter::open(Device::named) else { return };
    let n = 65_536 * 256 + 3;
    let x = Tensor::iota(&device, &[n], 0).unwrap();
    let x = x.rem_u32(&Tensor::full_u32(&device, &[n], 251).unwrap()).unwrap();
    let y: Vec<u32> = x.to_vec().unwrap();
    assert_eq!(y.iter().enumerate().position(|(i, &y)| y as usize != i % 251), None);
}
