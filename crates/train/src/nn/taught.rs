//! A student and its teacher in one set of parameters.

use std::sync::Arc;

use acclimate_tensor::Tensor;

use crate::error::{Error, Result};
use crate::layer::{Init, Layer, Pass, Start, join};
use crate::params::{Kind, Params};

/// What the teacher's paths begin with.
const TEACHER: &str = "teacher";

/// student(x), or teacher(x) in a pass that asks for the teacher ([`Pass::with_teacher`]).
///
/// The teacher's parameters are buffers, at `teacher.<path>`: no gradient, optimizer or overlay can reach them, and they
/// travel with the student to checkpoints, devices and hashes.
#[derive(Clone, Debug)]
pub struct Taught {
    student: Arc<dyn Layer>,
    teacher: Arc<dyn Layer>,
    /// The teacher's layout; its values are those of the buffers.
    like: Params,
}

impl Taught {
    /// Of two networks; `like` has the layout of the teacher's parameters, as a trained teacher's own do.
    pub fn new(student: Arc<dyn Layer>, teacher: Arc<dyn Layer>, like: &Params) -> Self {
        Taught { student, teacher, like: like.clone() }
    }

    /// The student's parameters with the teacher's among the buffers, on the student's device. Fails on a student with
    /// paths of its own that begin with `teacher.`, and on a teacher of another layout.
    pub fn params(&self, student: &Params, teacher: &Params) -> Result<Params> {
        let [main, mut buffers] = student.to_items()?;
        if let Some(((path, ..), _)) = main.iter().chain(&buffers).find(|((path, ..), _)| is_teachers(path)) {
            return Err(Error::argument(
                "student",
                "no path at `teacher`, which is the teacher's",
                format!("`{path}`"),
            ));
        }
        let found = self.like.with_values(teacher.all_to_named()?, "the teacher's parameters")?;
        buffers.extend(
            found
                .all_to_named()?
                .into_iter()
                .map(|(path, dims, values)| ((join(TEACHER, &path), dims, values), Kind::Other)),
        );
        Params::from_items(student.device(), &main, &buffers)
    }

    /// The student's parameters and buffers alone.
    pub fn student(&self, params: &Params) -> Result<Params> {
        let [main, buffers] = params.to_items()?;
        let own: Vec<_> = buffers.into_iter().filter(|((path, ..), _)| !is_teachers(path)).collect();
        Params::from_items(params.device(), &main, &own)
    }

    /// The teacher's parameters and buffers, under its own paths: a view of the buffers.
    pub fn teacher(&self, params: &Params) -> Result<Params> {
        let paths = self.like.paths().chain(self.like.buffer_paths());
        let views = paths.map(|path| Ok((path.to_owned(), params.buffer(&join(TEACHER, path))?)));
        self.like.with_overrides(views.collect::<Result<Vec<_>>>()?)
    }

    /// New values for the buffers of a teacher of the student's own layout: keep·teacher + (1 − keep)·student, of its
    /// parameters and of the running statistics, for which `updates` wins (Tarvainen and Valpola 2017, mean teacher). No
    /// gradient flows through them.
    pub fn follow(&self, params: &Params, updates: &[(String, Tensor)], keep: f32) -> Result<Vec<(String, Tensor)>> {
        let mixed = |path: &str, new: Tensor| {
            let place = join(TEACHER, path);
            let old = params.buffer(&place)?;
            let new = old.mul_scalar(keep)?.add(&new.mul_scalar(1.0 - keep)?)?;
            Ok((place, new.detach()?))
        };
        let mains = self.like.paths().map(|path| mixed(path, params.get(path)?));
        let running = self.like.buffer_paths().map(|path| {
            let update = updates.iter().find(|(p, _)| p == path);
            mixed(path, update.map_or_else(|| params.buffer(path), |(_, t)| Ok(t.clone()))?)
        });
        mains.chain(running).collect()
    }
}

fn is_teachers(path: &str) -> bool {
    path.strip_prefix(TEACHER).is_some_and(|rest| rest.starts_with('.'))
}

impl Layer for Taught {
    fn declare(&self, init: &mut Init) -> Result<()> {
        self.student.declare(init)?;
        let indices = [Some(self.like.index()), self.like.buffer_index()];
        indices.into_iter().flatten().flat_map(|index| index.entries()).try_for_each(|entry| {
            init.buffer(join(TEACHER, &entry.path), entry.shape.dims(), Kind::Other, Start::Constant(0.0))
        })
    }

    fn apply(&self, params: &Params, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        if pass.enter_teacher() {
            return self.teacher.apply(&self.teacher(params)?, x, pass);
        }
        self.student.apply(params, x, pass)
    }
}
