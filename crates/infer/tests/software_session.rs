//! The promises of a session on a software adapter (or the one that `ACCLIMATE_DEVICE` names), and what only a GPU can
//! lose: itself, and its memory.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tensor/tests/adapter/mod.rs"]
mod adapter;
#[macro_use]
mod promises;

use std::time::Duration;

use acclimate_infer::Error;
use acclimate_infer::adapt::{calibrate, memo_affine, tent};
use acclimate_infer::queue::{Options, Queue};
use acclimate_infer::receipt::{Event, verify};
use acclimate_tensor::{Device, EngineKind};
use promises::{Bench, DIMS, Test, bits, images};

macro_rules! on_the_adapter {
    ($($promise:ident),* $(,)?) => {
        $(#[test]
        fn $promise() -> Test {
            match adapter::open(Device::named) {
                Some(device) => promises::$promise(&device),
                None => Ok(()),
            }
        })*
    };
}

promises!(on_the_adapter);

#[test]
fn a_lost_device_is_an_error_and_the_session_goes_on_elsewhere() -> Test {
    for (method, mirror) in [(tent(1e-2), 1), (tent(1e-2), 0), (memo_affine(2, 5e-3), 0), (calibrate(0.0), 0)] {
        let Some(device) = adapter::open(Device::named) else { return Ok(()) };
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("receipts.jsonl");
        let b = Bench::new(&device)?;
        let base = b.params.hash()?;
        let mut session = b.session(method.clone(), 4)?.mirrored_every(mirror).receipts_to(&log)?.keep_inputs()?;
        session.answer(&images(4, 1), DIMS)?;
        let state = session.snapshot()?.digest();
        device.destroy();
        let error = session.answer(&images(4, 2), DIMS).err().ok_or("a lost device must not answer")?;
        assert!(error.is_device_lost(), "{error}");
        assert!(session.answer(&images(4, 2), DIMS).is_err_and(|e| e.is_device_lost()));

        let mut session = session.rebuild_on(&Device::cpu())?;
        assert_eq!(session.base_hash_now()?, base);
        if mirror > 0 {
            assert_eq!(session.snapshot()?.digest(), state);
        }
        let answers = session.answer(&images(4, 2), DIMS)?;
        assert_eq!(answers[0].receipt.index, 4, "the sequence goes on");
        let carries = !method.is_per_input();
        assert_eq!(answers[0].receipt.since_reset, if carries && mirror > 0 { 4 } else { 0 });
        assert!(
            answers[0]
                .receipt
                .events
                .iter()
                .any(|e| matches!(e, Event::Moved { with_state, .. } if *with_state == (mirror > 0))),
            "{:?}",
            answers[0].receipt.events
        );
        // What a processor would have answered from the start, within what another engine rounds.
        let mut straight = Bench::new(&Device::cpu())?.session(method.clone(), 4)?;
        straight.answer(&images(4, 1), DIMS)?;
        if carries && mirror == 0 {
            straight.reset();
        }
        for (a, b) in answers.iter().zip(&straight.answer(&images(4, 2), DIMS)?) {
            for (a, b) in a.logits.iter().zip(&b.logits) {
                assert!((a - b).abs() <= 1e-3 * (1.0 + b.abs()), "{}: {a} {b}", method.name());
            }
        }
        session.finish()?;
        let found = verify(&log)?;
        assert!(found.holds() && found.records == 8, "{}: one log with all answers", method.name());
    }
    Ok(())
}

#[test]
fn a_state_that_was_lost_on_its_way_comes_back_from_the_mirror() -> Test {
    let Some(device) = adapter::open(Device::named) else { return Ok(()) };
    let b = Bench::new(&device)?;
    let mut session = b.session(tent(1e-2), 1)?.mirrored_every(1);
    session.answer(&images(4, 1), DIMS)?;
    let state = session.snapshot()?.digest();
    {
        let x = images(4, 2);
        let mut answer = std::pin::pin!(session.answer_async(&x, DIMS));
        // Submitted with this, perhaps done with it; what is lost is lost before it is read.
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let first = std::future::Future::poll(answer.as_mut(), &mut cx);
        device.destroy();
        if first.is_pending() {
            assert!(pollster::block_on(answer).is_err_and(|e| e.is_device_lost()));
        }
    }
    let rebuilt = session.rebuild_on(&Device::cpu())?;
    // If the answer was done at once, the mirror is of the state after it.
    let found = rebuilt.snapshot()?;
    assert!(found.since_reset() == 8 || (found.since_reset() == 4 && found.digest() == state));
    Ok(())
}

#[test]
fn memory_that_runs_out_is_an_error_and_the_session_goes_on_elsewhere() -> Test {
    // Room for the model and a small batch, not for a large one.
    let Some(device) = adapter::open(|name| Device::gpu_with_memory_limit(name, 6 << 20)) else { return Ok(()) };
    assert_eq!(device.kind(), EngineKind::Gpu);
    let b = Bench::new(&device)?;
    let mut session = b.session(tent(1e-2), 1)?.mirrored_every(1);
    let first = session.answer(&images(4, 1), DIMS)?;
    let state = session.snapshot()?.digest();
    let error: Error = session.answer(&images(4000, 2), DIMS).err().ok_or("4,000 images fit into 6 MiB?")?;
    assert!(error.is_out_of_memory(), "{error}");
    // The small batch still fits; nothing of the state was lost, or the receipt says that it was.
    let again = session.answer(&images(4, 2), DIMS)?;
    let lost = again[0].receipt.events.iter().any(|e| matches!(e, Event::StateLost { .. }));
    assert_eq!(again[0].receipt.since_reset, if lost { 0 } else { 4 });
    if lost {
        let mut fresh = b.session(tent(1e-2), 1)?;
        fresh.answer(&images(4, 1), DIMS)?;
        fresh.reset();
        assert_eq!(bits(&again), bits(&fresh.answer(&images(4, 2), DIMS)?));
    }
    drop(first);
    let mut session = session.rebuild_on(&Device::cpu())?;
    let large = session.answer(&images(400, 2), DIMS)?;
    assert_eq!(large.len(), 400);
    assert!(!lost || state != session.snapshot()?.digest());
    Ok(())
}

#[test]
fn a_queue_loses_no_input_with_its_device() -> Test {
    let Some(device) = adapter::open(Device::named) else { return Ok(()) };
    let b = Bench::new(&device)?;
    let options = Options { capacity: 64, linger: Duration::ZERO, fallback: Some(Device::cpu()) };
    let queue = Queue::new(b.session(memo_affine(2, 5e-3), 4)?, DIMS, options)?;
    let mut tickets = Vec::new();
    for i in 0..24 {
        tickets.push(queue.submit_when_free(images(1, i))?);
        if i == 11 {
            device.destroy();
        }
    }
    let answers: Vec<_> = tickets.into_iter().map(|t| t.wait()).collect::<Result<_, _>>()?;
    let indices: Vec<u64> = answers.iter().map(|a| a.receipt.index).collect();
    assert_eq!(indices, (0..24).collect::<Vec<u64>>());
    let session = queue.shutdown()?;
    assert_eq!(session.device().kind(), EngineKind::Cpu);
    // Without a fallback every input gets the error, and the queue lives.
    let Some(device) = adapter::open(Device::named) else { return Ok(()) };
    let b = Bench::new(&device)?;
    let queue = Queue::new(b.session(memo_affine(2, 5e-3), 4)?, DIMS, Options::default())?;
    device.destroy();
    for i in 0..2 {
        assert!(queue.submit(images(1, i))?.wait().is_err_and(|e| e.is_device_lost()));
    }
    assert_eq!(queue.shutdown()?.answered(), 0);
    Ok(())
}
