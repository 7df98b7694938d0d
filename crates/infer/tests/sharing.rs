//! Sessions that are shared: a queue before one session, and many tenants over one model.

#![allow(clippy::unwrap_used, clippy::panic)]

mod promises;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acclimate_infer::adapt::{frozen, memo_affine, tent};
use acclimate_infer::queue::{Options, Queue};
use acclimate_infer::receipt::Input;
use acclimate_infer::tenants::Tenants;
use acclimate_infer::{Answered, Error, Session};
use acclimate_tensor::Device;
use promises::{Bench, DIMS, SIZE, Test, bits, images};
use proptest::prelude::*;

/// An image that no other number has.
fn image(i: usize) -> Vec<f32> {
    let mut image = images(1, i as u32);
    (image[0], image[1]) = (i as f32 / 4096.0, 0.5);
    image
}

fn is_of(answer: &Answered, i: usize) -> bool {
    answer.receipt.input == Input::new(DIMS, image(i)).unwrap().digest()
}

/// Producers that wait or await, each with inputs of its own; every input must get its own answer, once.
fn stress(session: Session, producers: usize, each: usize, options: Options) -> Session {
    let queue = Arc::new(Queue::new(session, DIMS, options).unwrap());
    let indices: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|p| {
                let queue = queue.clone();
                scope.spawn(move || {
                    let ids: Vec<usize> = (0..each).map(|k| p * each + k).collect();
                    let tickets: Vec<_> = ids
                        .iter()
                        .map(|&i| {
                            loop {
                                // Half of the producers block for room, the others try again.
                                if p % 2 == 0 {
                                    break queue.submit_when_free(image(i)).unwrap();
                                }
                                match queue.submit(image(i)) {
                                    Ok(ticket) => break ticket,
                                    Err(Error::QueueFull { .. }) => std::thread::yield_now(),
                                    Err(error) => panic!("{error}"),
                                }
                            }
                        })
                        .collect();
                    let answers = tickets.into_iter().enumerate().map(|(k, ticket)| {
                        if (p + k) % 2 == 0 { ticket.wait().unwrap() } else { pollster::block_on(ticket).unwrap() }
                    });
                    ids.iter()
                        .zip(answers)
                        .map(|(&i, answer)| {
                            assert!(is_of(&answer, i), "input {i} got the answer of another");
                            answer.receipt.index
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let n = producers * each;
    let different: BTreeSet<u64> = indices.iter().copied().collect();
    assert_eq!(different, (0..n as u64).collect::<BTreeSet<_>>(), "each input is answered once");
    Arc::into_inner(queue).unwrap().shutdown().unwrap()
}

#[test]
fn no_input_is_lost_or_answered_twice() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let options = Options { capacity: 16, linger: Duration::from_micros(200), fallback: None };
    let session = stress(b.session(memo_affine(2, 5e-3), 8)?, 6, 40, options);
    assert_eq!(session.answered(), 240);
    let calls = session.latency().calls;
    assert!((30..240).contains(&calls), "{calls} submissions for 240 inputs in 8 slots");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_the_sizes(
        slots in 1usize..9,
        capacity in 1usize..12,
        producers in 1usize..5,
        each in 1usize..12,
        linger in 0u64..400,
    ) {
        let b = Bench::new(&Device::cpu()).unwrap();
        let options = Options { capacity, linger: Duration::from_micros(linger), fallback: None };
        let session = stress(b.session(frozen(), slots).unwrap(), producers, each, options);
        prop_assert_eq!(session.answered(), (producers * each) as u64);
    }
}

#[test]
fn an_answer_is_what_the_session_itself_would_say() -> Test {
    let b = Bench::new(&Device::cpu())?;
    let queue = Queue::new(b.session(memo_affine(4, 5e-3), 4)?, DIMS, Options::default())?;
    let tickets: Vec<_> = (0..10).map(|i| queue.submit(image(i))).collect::<Result<_, _>>()?;
    let answers: Vec<Answered> = tickets.into_iter().map(|t| t.wait()).collect::<Result<_, _>>()?;
    let all: Vec<f32> = (0..10).flat_map(image).collect();
    assert_eq!(bits(&answers), bits(&b.session(memo_affine(4, 5e-3), 4)?.answer(&all, DIMS)?));
    Ok(())
}

#[test]
fn a_full_queue_says_so_and_a_shutdown_answers_what_waits() -> Test {
    let b = Bench::new(&Device::cpu())?;
    // Nothing is answered for a minute, unless eight come together or the queue is shut down.
    let options = Options { capacity: 3, linger: Duration::from_secs(60), fallback: None };
    let queue = Queue::new(b.session(frozen(), 8)?, DIMS, options)?;
    let tickets: Vec<_> = (0..3).map(|i| queue.submit(image(i))).collect::<Result<_, _>>()?;
    let error = queue.submit(image(3)).err().ok_or("the queue took four")?;
    assert!(
        matches!(error, Error::QueueFull { capacity: 3 }) && error.to_string().contains("3 inputs wait"),
        "{error}"
    );
    assert!(queue.submit(vec![0.0; 5]).is_err_and(|e| e.to_string().contains("expected 64, found 5")));
    assert_eq!(queue.waiting(), 3);
    let session = queue.shutdown()?;
    for (i, ticket) in tickets.into_iter().enumerate() {
        assert!(is_of(&ticket.wait()?, i));
    }
    assert_eq!((session.answered(), session.latency().calls), (3, 1));
    assert!(Queue::new(session, [0, 1, 1], Options::default()).is_err());
    // Dropping a queue is a shutdown too.
    let queue =
        Queue::new(b.session(frozen(), 8)?, DIMS, Options { linger: Duration::from_secs(60), ..Options::default() })?;
    let ticket = queue.submit(image(7))?;
    drop(queue);
    assert!(is_of(&ticket.wait()?, 7));
    Ok(())
}

#[test]
fn tenants_have_states_of_their_own_over_one_model() -> Test {
    let device = Device::cpu();
    let b = Bench::new(&device)?;
    let folder = tempfile::tempdir()?;
    let mut alone = b.session(tent(1e-2), 1)?;
    let mut tenants = Tenants::new(b.session(tent(1e-2), 1)?);
    tenants.answer("warm", &images(4, 9), DIMS)?;
    let before = device.stats();
    // One tenant among thirty others answers as if it were alone.
    for i in 0..4 {
        for other in 0..30 {
            tenants.answer(&format!("other {other}"), &images(4, 100 + other + i), DIMS)?;
        }
        let (found, expected) = (tenants.answer("one", &images(4, i), DIMS)?, alone.answer(&images(4, i), DIMS)?);
        assert_eq!(bits(&found), bits(&expected), "batch {i}");
        if i == 1 {
            // Out of memory and back in between.
            tenants.put_away("one", folder.path())?;
            assert!(tenants.names().all(|name| name != "one"));
            tenants.bring_back("one", folder.path())?;
        }
    }
    let after = device.stats();
    assert_eq!(after.plans_built, before.plans_built, "tenants share their plans");
    // Each carries its overlay, two moments and a step count: four buffers of 256 bytes, the smallest there are; and no
    // copy of the parameters. A fifth would be something else.
    let each = (after.bytes_live - before.bytes_live) / 31;
    let model: usize = b.params.to_named()?.iter().map(|n| n.2.len() * 4).sum();
    assert!(each < 5 * 256 && (each as usize) < model, "{each} bytes a tenant, the model has {model}");
    assert_eq!(tenants.len(), 32);
    assert!(tenants.remove("one") && !tenants.remove("one"));
    assert_eq!(
        bits(&tenants.answer("one", &images(4, 0), DIMS)?),
        bits(&b.session(tent(1e-2), 1)?.answer(&images(4, 0), DIMS)?)
    );
    assert_eq!(images(1, 0).len(), SIZE);
    Ok(())
}
