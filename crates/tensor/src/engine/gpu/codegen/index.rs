//! From a linear index to the positions of loads, with divisions only where they are needed.

use crate::error::Result;
use crate::plan::layout::Layout;

use super::Writer;
use crate::engine::gpu::launch::Word;

/// A linear index and the axes it runs over, outermost first.
pub(super) struct Space {
    /// The variable of the linear index; its axes are named after it.
    pub linear: &'static str,
    /// Which axes of the group, with their sizes.
    pub axes: Vec<(usize, usize)>,
}

/// How a layout walks over a space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// Not at all: every index reads the same.
    Still,
    /// In equal steps of the linear index; `unit` steps are of one element.
    Linear { unit: bool },
    /// By the index of each axis.
    Axes,
}

fn walk(layout: &Layout, space: &Space) -> Walk {
    let axes = || space.axes.iter().map(|&(d, size)| (&layout.axes[d], size));
    if axes().any(|(a, _)| a.guard.is_some()) {
        return Walk::Axes;
    }
    if axes().all(|(a, _)| a.stride == 0) {
        return Walk::Still;
    }
    let Some((last, _)) = axes().next_back() else { return Walk::Still };
    let mut step = last.stride;
    for (axis, size) in axes().rev() {
        if axis.stride != step {
            return Walk::Axes;
        }
        step *= size as isize;
    }
    Walk::Linear { unit: last.stride == 1 }
}

/// A position: the sum of `addends`, valid where all `conditions` hold.
#[derive(Clone, Default)]
pub(super) struct Position {
    pub addends: Vec<String>,
    pub conditions: Vec<String>,
}

impl Position {
    pub fn sum(&self) -> String {
        if self.addends.is_empty() { "0u".into() } else { self.addends.join(" + ") }
    }

    pub fn inside(&self) -> String {
        self.conditions.join(" && ")
    }
}

impl Writer {
    /// Writes the indices that the layouts need along a space, and returns where each of them stands in it.
    /// `layouts` come with the number of their term.
    pub(super) fn positions(&mut self, space: &Space, layouts: &[(usize, &Layout)]) -> Result<Vec<Position>> {
        let walks: Vec<Walk> = layouts.iter().map(|(_, l)| walk(l, space)).collect();
        let mut needed = vec![false; space.axes.len()];
        for ((_, layout), _) in layouts.iter().zip(&walks).filter(|(_, w)| **w == Walk::Axes) {
            for (k, &(d, _)) in space.axes.iter().enumerate() {
                let axis = &layout.axes[d];
                needed[k] |= axis.stride != 0 || axis.guard.is_some();
            }
        }
        let names = self.indices(space, &needed)?;
        let mut positions = Vec::with_capacity(layouts.len());
        for (&(term, layout), &walk) in layouts.iter().zip(&walks) {
            positions.push(match walk {
                Walk::Still => Position::default(),
                Walk::Linear { unit: true } => {
                    Position { addends: vec![space.linear.to_owned()], conditions: Vec::new() }
                }
                Walk::Linear { unit: false } => {
                    let last = space.axes.last().map_or(0, |&(d, _)| layout.axes[d].stride);
                    let stride = self.param(format!("stride{term}_{}", space.linear), "u32", Word::signed(last));
                    Position { addends: vec![format!("{} * {stride}", space.linear)], conditions: Vec::new() }
                }
                Walk::Axes => self.by_axes(space, term, layout, &names)?,
            });
        }
        Ok(positions)
    }

    /// Splits the linear index into the indices of the axes that are needed.
    fn indices(&mut self, space: &Space, needed: &[bool]) -> Result<Vec<String>> {
        let mut names = vec![String::new(); space.axes.len()];
        let mut rest = space.linear.to_owned();
        for k in (0..space.axes.len()).rev() {
            if !needed[..=k].contains(&true) {
                break;
            }
            if k == 0 {
                names[0] = rest;
                break;
            }
            let (d, size) = space.axes[k];
            let size = self.param(format!("size{d}"), "u32", Word::size(size)?);
            if needed[k] {
                names[k] = format!("{}{d}", space.linear);
                self.line(format!("let {} = {rest} % {size};", names[k]));
            }
            if needed[..k].contains(&true) {
                let outer = format!("{}_above{d}", space.linear);
                self.line(format!("let {outer} = {rest} / {size};"));
                rest = outer;
            }
        }
        Ok(names)
    }

    fn by_axes(&mut self, space: &Space, term: usize, layout: &Layout, names: &[String]) -> Result<Position> {
        let mut position = Position::default();
        for (name, &(d, _)) in names.iter().zip(&space.axes) {
            let axis = &layout.axes[d];
            let mut at = name.clone();
            if let Some(guard) = axis.guard {
                let low = self.param(format!("low{term}_{d}"), "u32", Word::size(guard.low)?);
                let len = self.param(format!("len{term}_{d}"), "u32", Word::size(guard.len)?);
                let from = format!("from{term}_{d}");
                // Below `low` the difference wraps to a number above any that an element has.
                self.line(format!("let {from} = {name} - {low};"));
                at = from.clone();
                if guard.step != 1 {
                    let step = self.param(format!("step{term}_{d}"), "u32", Word::size(guard.step)?);
                    at = format!("at{term}_{d}");
                    self.line(format!("let {at} = {from} / {step};"));
                    position.conditions.push(format!("{at} * {step} == {from}"));
                }
                position.conditions.push(format!("{at} < {len}"));
            }
            if axis.stride != 0 {
                let stride = self.param(format!("stride{term}_{d}"), "u32", Word::signed(axis.stride));
                position.addends.push(format!("{at} * {stride}"));
            }
        }
        Ok(position)
    }
}
