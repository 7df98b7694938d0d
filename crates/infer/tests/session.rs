//! The promises of a session on the CPU engine, and what only needs to be seen on one engine.

#![allow(clippy::unwrap_used, clippy::panic)]

#[macro_use]
mod promises;

use acclimate_infer::adapt::{calibrate, memo_affine, statistics, tent};
use acclimate_infer::receipt::Digest;
use acclimate_tensor::Device;
use promises::{Bench, DIMS, Test, images};

macro_rules! on_the_cpu {
    ($($promise:ident),* $(,)?) => {
        $(#[test]
        fn $promise() -> Test {
            promises::$promise(&Device::cpu())
        })*
    };
}

promises!(on_the_cpu);

#[test]
fn the_source_is_the_same_after_a_thousand_answers() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let before = b.params.hash()?;
    let mut sessions = Vec::new();
    for method in [tent(1e-2), statistics(), memo_affine(2, 5e-3), calibrate(0.0)] {
        sessions.push(b.session(method, 25)?);
    }
    for i in 0..40 {
        let x = images(25, i);
        for session in &mut sessions {
            session.answer(&x, DIMS)?;
        }
    }
    for session in &sessions {
        assert_eq!(session.answered(), 1000);
        assert_eq!(session.base_hash_now()?, before, "{}", session.method().name());
    }
    Ok(())
}

/// Set in a child process: print a digest of the answers and end.
const CHILD: &str = "ACCLIMATE_TEST_PRINT_ANSWERS";

#[test]
fn an_answer_does_not_depend_on_the_number_of_threads() -> Test {
    if std::env::var_os(CHILD).is_some() {
        let b = Bench::new(&Device::cpu())?;
        let dims = [1, 24, 24];
        let x = images(12 * 9, 3);
        let mut bits = Vec::new();
        for method in [tent(1e-2), memo_affine(4, 5e-3)] {
            let mut session = b.session(method, 8)?;
            for _ in 0..2 {
                let answers = session.answer(&x, dims)?;
                bits.extend(answers.iter().flat_map(|a| a.logits.iter().flat_map(|x| x.to_le_bytes())));
            }
        }
        println!("answers: {}", Digest::of_bytes(&bits));
        return Ok(());
    }
    let mut found = Vec::new();
    for threads in ["1", "2", "5"] {
        let child = std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", "an_answer_does_not_depend_on_the_number_of_threads", "--nocapture"])
            .env(CHILD, "1")
            .env("RAYON_NUM_THREADS", threads)
            .output()?;
        let text = String::from_utf8(child.stdout)?;
        let line = text.lines().find_map(|l| l.split_once("answers: ")).ok_or("the child printed no answers")?;
        found.push(line.1.to_owned());
    }
    assert!(found.iter().all(|f| *f == found[0]), "{found:?}");
    Ok(())
}
