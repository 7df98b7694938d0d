//! `ACCLIMATE_CHECK=finite` names the first node that made something that is not finite.
//!
//! The environment is read once in a process, so the tests run again as children of their own.

#![allow(clippy::unwrap_used, clippy::panic)]

mod adapter;

use std::process::Command;

use acclimate_tensor::{Device, Error, Result, Tensor, grad, vmap};

/// Runs a test of this file again, with checks; whether this is that run.
fn again(test: &str) -> bool {
    if std::env::var("ACCLIMATE_CHECK").as_deref() == Ok("finite") {
        return true;
    }
    let me = std::env::current_exe().unwrap();
    let run =
        Command::new(me).args([test, "--exact", "--nocapture"]).env("ACCLIMATE_CHECK", "finite").output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    if text.contains("skipped: no adapter") {
        println!("skipped: no adapter");
    }
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn check(device: &Device) -> Result<()> {
    let mut x: Vec<f32> = (0..600).map(|i| i as f32).collect();
    let fine = |x: &[f32]| -> Result<Vec<f32>> {
        let x = Tensor::from_slice(device, x, &[2, 300])?;
        // Two steps at least: the sum is stored, and so is what is read twice.
        let mean = x.sum_keep(&[1])?.mul_scalar(1.0 / 300.0)?;
        let root = x.sub(&mean)?.abs()?.ln()?; // −∞ where x is the mean
        root.sum(&[1])?.add(&root.max(&[1])?)?.to_vec()
    };
    x[7] = 1e3;
    fine(&x)?;
    x[411] = f32::NAN;
    match fine(&x).unwrap_err() {
        Error::NotFinite { node, index, at } => {
            assert!(node.contains("sum"), "the sum is the first that meets it, not {node}");
            assert_eq!(index, 1, "its second row");
            assert!(at.contains("finite_check.rs"), "{at}");
        }
        e => return Err(e),
    }
    // Rows that are left out may hold anything.
    let count = Tensor::from_slice(device, &[1u32], &[1])?;
    let x = Tensor::from_slice(device, &x, &[2, 300])?;
    // Apart from the reading, or the handles on the way would be alive and ask for whole values.
    let total = x.tanh()?.max_keep(&[1])?.neg()?.live_rows(&count)?.sum(&[])?;
    total.item().map(drop)
}

#[test]
fn the_first_node_that_is_not_finite_is_named() {
    if again("the_first_node_that_is_not_finite_is_named") {
        check(&Device::cpu()).unwrap();
    }
}

/// A gradient, and what `vmap` makes of an op, are named by the line of the op that they are of.
#[test]
fn what_is_made_of_an_op_is_named_by_its_line() {
    if !again("what_is_made_of_an_op_is_named_by_its_line") {
        return;
    }
    let device = Device::cpu();
    let x = Tensor::from_slice(&device, &[0f32, 1.0, -1.0], &[3, 1]).unwrap();
    let line = |e: Error| match e {
        Error::NotFinite { at, .. } => at,
        e => panic!("{e}"),
    };
    let (y, here) = (x.narrow(0, 0, 2).unwrap().sqrt().unwrap().sum(&[]).unwrap(), line!());
    let found = line(grad(&y, x.clone()).unwrap().to_vec::<f32>().unwrap_err());
    assert!(found.contains(&format!("finite_check.rs:{here}")), "{found}, not line {here}");
    let here = line!() + 1;
    let y = vmap(|x: Tensor| x.ln(), x.narrow(0, 1, 2).unwrap()).unwrap();
    let found = line(y.to_vec::<f32>().unwrap_err());
    assert!(found.contains(&format!("finite_check.rs:{here}")), "{found}, not line {here}");
}

#[test]
fn software_the_first_node_that_is_not_finite_is_named() {
    if again("software_the_first_node_that_is_not_finite_is_named")
        && let Some(device) = adapter::open(Device::named)
    {
        check(&device).unwrap();
    }
}
