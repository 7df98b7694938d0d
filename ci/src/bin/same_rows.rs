//! `same_rows FILE FILE`: whether two runs of `quickstart --json` on two engines have the same rows.

use acclimate_ci::same_rows::{Table, compare};
use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [a, b] = paths.as_slice() else { bail!("two files are needed, {} were given", paths.len()) };
    let read = |path: &str| -> Result<Table> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
        Table::of(&text).with_context(|| path.to_owned())
    };
    println!("{} rows say the same on both engines", compare(&read(a)?, &read(b)?)?);
    Ok(())
}
