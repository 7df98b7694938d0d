//! The ladder of a method: the method itself, then ever less of it, down to the frozen model.

use crate::adapt::{Adaptation, Answer, Guard, Objective, Prepare, Reset, Window};

/// How often views, and then steps, are halved before they are given up.
const HALVINGS: usize = 2;

/// The rungs of a method's ladder, with their names, in the order in which they are given up. Rung 0 is the method.
///
/// A batch method's state is passed through every rung, so all of them move the same parameters: the rung above
/// "frozen" answers with what was adapted last, without a step (Alfarra et al. 2024).
pub fn rungs(method: &Adaptation) -> Vec<(String, Adaptation)> {
    let mut rungs = vec![("full".to_owned(), method.clone())];
    let mut less = method.clone();
    if let Window::Views(views) = method.window {
        for count in halved(views.count, 2) {
            let mut fewer = views;
            fewer.count = count;
            less.window = Window::Views(fewer);
            rungs.push((format!("fewer views ({count})"), less.clone()));
        }
    }
    // A search keeps a population for its number of steps.
    let steps = if method.search.is_some() { 0 } else { method.steps };
    for steps in halved(steps, 1) {
        less.steps = steps;
        rungs.push((format!("fewer steps ({steps})"), less.clone()));
    }
    if let Some(rung) = without_step(method) {
        rungs.push(rung);
    }
    if !is_frozen(method) {
        rungs.push(("frozen".to_owned(), frozen(method)));
    }
    // What contradicts itself with less of it is no rung.
    rungs.retain(|(_, rung)| rung.validate().is_ok());
    rungs
}

/// Half, and half of that, while it is at least `least`.
fn halved(n: usize, least: usize) -> impl Iterator<Item = usize> {
    (1..=HALVINGS).map(move |k| n >> k).filter(move |&m| m >= least)
}

/// The forward pass of the method without a step.
fn without_step(method: &Adaptation) -> Option<(String, Adaptation)> {
    if method.steps == 0 {
        return None;
    }
    let mut rung = method.clone();
    rung.steps = 0;
    // Without a step no objective can fall. What other guards remember is passed through.
    rung.guards.retain(|guard| !matches!(guard, Guard::LossMustFall));
    if !method.is_per_input() {
        return Some(("last adapted".to_owned(), rung));
    }
    rung.window = Window::ThisInput;
    rung.answer = Answer::AfterStep;
    if method.prepare != Prepare::AsIs {
        return Some(("closed form only".to_owned(), rung));
    }
    let rung = Adaptation::new("statistics", Objective::None).statistics(method.statistics).output(method.output);
    (!is_frozen(&rung)).then(|| ("statistics only".to_owned(), rung))
}

/// Whether a method does what the frozen model does, whatever its name.
fn is_frozen(method: &Adaptation) -> bool {
    let nameless = |m: &Adaptation| m.clone().named("").config();
    nameless(method) == nameless(&crate::adapt::frozen())
}

/// The source model in the method's kind of window.
fn frozen(method: &Adaptation) -> Adaptation {
    let frozen = crate::adapt::frozen();
    if method.is_per_input() {
        frozen
    } else {
        frozen.window(Window::ThisBatch).reset(Reset::Never).answer(Answer::BeforeStep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::{calibrate, memo_affine, statistics, tent, vote};

    #[test]
    fn every_ladder_ends_frozen_and_every_rung_is_valid() {
        let names = |m: &Adaptation| rungs(m).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            names(&memo_affine(16, 1e-3)),
            ["full", "fewer views (8)", "fewer views (4)", "statistics only", "frozen"]
        );
        assert_eq!(
            names(&calibrate(1.0)),
            ["full", "fewer steps (3)", "fewer steps (1)", "closed form only", "frozen"]
        );
        assert_eq!(names(&tent(1e-3)), ["full", "last adapted", "frozen"]);
        assert_eq!(names(&statistics()), ["full", "frozen"]);
        assert_eq!(names(&vote(4)), ["full", "fewer views (2)", "frozen"]);
        assert_eq!(names(&crate::adapt::frozen()), ["full"]);
        for method in [memo_affine(16, 1e-3), calibrate(1.0), tent(1e-3), statistics(), vote(4)] {
            for (name, rung) in rungs(&method) {
                assert!(rung.validate().is_ok(), "{} {name}", method.name());
            }
        }
    }
}
