//! Bytes of the plans of the rows (`memory [ROW..]`) beside the least that any layout could have: the most bytes whose lifetimes meet in
//! one launch.

use acclimate_benches::{Size, rows};
use acclimate_tensor::Device;
use anyhow::{Result, ensure};

fn main() -> Result<()> {
    println!("{:16} {:>10} {:>10} {:>7}   (largest plan of the row; MiB)", "row", "peak", "bound", "ratio");
    let mut worst = 0.0f64;
    let names: Vec<String> = std::env::args().skip(1).collect();
    for (name, make) in rows::named(&names, rows::ROWS.iter().chain(rows::MIXED))? {
        // A device of its own: its plans are the row's.
        let device = Device::cpu();
        let mut row = make(&device, Size::Full)?;
        for _ in 0..3 {
            row.run()?;
        }
        let Some(plan) = device.plan_memory().into_iter().max_by_key(|m| m.peak) else { continue };
        let (peak, bound) = (plan.peak as f64, plan.lower_bound.max(1) as f64);
        worst = worst.max(peak / bound);
        println!("{name:16} {:10.2} {:10.2} {:7.3}", peak / 1048576.0, bound / 1048576.0, peak / bound);
    }
    ensure!(worst <= 1.3, "a plan takes {worst:.2} times what lifetimes ask for");
    Ok(())
}
