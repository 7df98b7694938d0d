//! A student that begins as a part of its teacher.

use acclimate_train::Params;

use crate::error::Error;

/// The student's parameters and buffers with the teacher's values: each path has those of the path that `of` names, so that
/// a student of fewer layers begins with some of the teacher's (Sanh et al. 2019, DistilBERT: every other one). None keeps
/// the student's own. Fails on a path that the teacher does not have, and where the shapes differ.
///
/// ```
/// use acclimate_infer::distill::inherit;
/// use acclimate_tensor::Device;
/// use acclimate_train::{Layer, nn::zoo::CifarResNet};
///
/// let device = Device::cpu();
/// let teacher = CifarResNet::new(20, 10)?.init(&device, 1)?; // three blocks in each stage
/// let student = CifarResNet::new(14, 10)?.init(&device, 2)?; // two: the teacher's first and last
/// let student = inherit(&student, &teacher, |path| Some(path.replace(".1.", ".2.")))?;
/// # Ok::<(), acclimate_infer::Error>(())
/// ```
pub fn inherit(student: &Params, teacher: &Params, of: impl Fn(&str) -> Option<String>) -> Result<Params, Error> {
    let (mut own, given) = (student.all_to_named()?, teacher.all_to_named()?);
    for (path, dims, values) in &mut own {
        let Some(wanted) = of(path) else { continue };
        let Some((_, found, from)) = given.iter().find(|(path, ..)| *path == wanted) else {
            return Err(Error::size(format!("teacher's values for `{path}`"), format!("a path `{wanted}`"), "none"));
        };
        if found != dims {
            return Err(Error::size(
                format!("teacher's `{wanted}` for `{path}`"),
                format!("{dims:?}"),
                format!("{found:?}"),
            ));
        }
        values.clone_from(from);
    }
    Ok(student.with_values(own, "the teacher's parameters")?)
}
