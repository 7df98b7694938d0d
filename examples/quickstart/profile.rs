//! What `--profile` shows: counters of the device, and where the time of one batch goes, as a table and as a trace.

use std::fs;
use std::path::Path;

use acclimate::prelude::*;
use anyhow::{Context, Result};

/// Prints the counters and the launches of one answer of `pixels`; the trace is `profile.json` in `folder`, for Perfetto or
/// `chrome://tracing`. A GPU without timestamps has the counters alone.
pub fn show(session: &mut Session, pixels: &[f32], dims: [usize; 3], folder: &Path) -> Result<()> {
    let device = session.device().clone();
    eprintln!("{:#?}", device.stats());
    // Planning and compiling are no part of it.
    session.answer(pixels, dims)?;
    let (answers, profile) = match device.profile(|| Ok(session.answer(pixels, dims))) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("no launches to show: {error}");
            return Ok(());
        }
    };
    let n = answers?.len();
    let path = folder.join("profile.json");
    fs::write(&path, profile.chrome_trace()).with_context(|| format!("write {}", path.display()))?;
    eprintln!("{} answering {n} at once:\n{profile}\ntrace: {}", session.method().name(), path.display());
    Ok(())
}
