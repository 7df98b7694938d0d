//! Structures of tensors that transforms take apart and put together again.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A value made of tensors: a tensor, a tuple, a list, parameters.
pub trait Tree: Sized {
    /// All but the tensors: what is needed to put the value together again. Equal forms have as many tensors.
    type Form: Clone + PartialEq + Send + Sync + 'static;

    /// The form, and the tensors in a fixed order appended to `leaves`.
    fn take_apart(self, leaves: &mut Vec<Tensor>) -> Self::Form;

    /// The inverse.
    fn put_together(form: &Self::Form, leaves: &mut dyn Iterator<Item = Tensor>) -> Result<Self>;
}

impl Tree for Tensor {
    type Form = ();
    fn take_apart(self, leaves: &mut Vec<Tensor>) {
        leaves.push(self);
    }
    fn put_together(_: &(), leaves: &mut dyn Iterator<Item = Tensor>) -> Result<Self> {
        leaves.next().ok_or_else(|| Error::internal("tree", "too few tensors"))
    }
}

impl<T: Tree> Tree for Vec<T> {
    type Form = Vec<T::Form>;
    fn take_apart(self, leaves: &mut Vec<Tensor>) -> Self::Form {
        self.into_iter().map(|t| t.take_apart(leaves)).collect()
    }
    fn put_together(form: &Self::Form, leaves: &mut dyn Iterator<Item = Tensor>) -> Result<Self> {
        form.iter().map(|f| T::put_together(f, leaves)).collect()
    }
}

impl<T: Tree> Tree for Option<T> {
    type Form = Option<T::Form>;
    fn take_apart(self, leaves: &mut Vec<Tensor>) -> Self::Form {
        self.map(|t| t.take_apart(leaves))
    }
    fn put_together(form: &Self::Form, leaves: &mut dyn Iterator<Item = Tensor>) -> Result<Self> {
        form.as_ref().map(|f| T::put_together(f, leaves)).transpose()
    }
}

macro_rules! tuple {
    ($($t:ident $i:tt),*) => {
        impl<$($t: Tree),*> Tree for ($($t,)*) {
            type Form = ($($t::Form,)*);
            #[allow(unused_variables, clippy::unused_unit)]
            fn take_apart(self, leaves: &mut Vec<Tensor>) -> Self::Form {
                ($(self.$i.take_apart(leaves),)*)
            }
            #[allow(unused_variables)]
            fn put_together(form: &Self::Form, leaves: &mut dyn Iterator<Item = Tensor>) -> Result<Self> {
                Ok(($($t::put_together(&form.$i, leaves)?,)*))
            }
        }
    };
}
tuple!();
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
