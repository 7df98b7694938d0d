//! Parameters: an ordered map from path to f32 tensor in one flat arena, and a second arena of buffers.
//!
//! Buffers (running statistics) are state that neither gradients nor optimizers touch. Overrides win over both arenas
//! where they are given; per-input weights come in that way. Everything here is a value: methods return new `Params`
//! that share what did not change.

mod hash;
mod index;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use acclimate_tensor::{Device, Shape, Tensor, Tree, grad};

pub use index::{ALIGNMENT, Entry, Index, Kind};

use crate::error::{Error, Result};

/// Named values of the host: path, sizes, elements in row-major order.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// An index and the arena laid out by it.
#[derive(Clone)]
struct Arena {
    index: Arc<Index>,
    tensor: Tensor,
}

impl Arena {
    fn new(index: Arc<Index>, tensor: Tensor) -> Result<Self> {
        if tensor.dims() != [index.len()] {
            let expected = format!("an arena of shape [{}]", index.len());
            return Err(acclimate_tensor::Error::shape("with_arena", expected, format!("{}", tensor.shape())).into());
        }
        Ok(Arena { index, tensor })
    }

    fn upload(device: &Device, items: &[(Named, Kind)]) -> Result<Option<Self>> {
        if items.is_empty() {
            return Ok(None);
        }
        let entry = |((path, dims, _), kind): &(Named, Kind)| Ok((path.clone(), Shape::new(dims)?, *kind));
        let index = Index::new(items.iter().map(entry).collect::<Result<Vec<_>>>()?)?;
        let mut values = items.iter().map(|((_, _, values), _)| values.as_slice());
        let values: BTreeMap<&str, &[f32]> = index.entries().iter().map(|e| e.path.as_str()).zip(&mut values).collect();
        let arena = index.pack(|e| Ok(values.get(e.path.as_str()).copied().unwrap_or_default()))?;
        let tensor = Tensor::from_slice(device, &arena, &[index.len()])?;
        Ok(Some(Arena { index: Arc::new(index), tensor }))
    }

    fn view(&self, entry: &Entry) -> Result<Tensor> {
        Ok(self.tensor.narrow(0, entry.offset, entry.shape.numel())?.reshape(&entry.shape)?)
    }
}

/// The parameters of a model: see the [module](self).
///
/// ```
/// use acclimate_tensor::Device;
/// use acclimate_train::Params;
///
/// let named = [("fc.weight", vec![1, 2], vec![3.0, 4.0]), ("fc.bias", vec![1], vec![5.0])];
/// let params = Params::from_named(&Device::cpu(), named.map(|(p, d, v)| (p.to_owned(), d, v)).to_vec())?;
/// assert_eq!(params.get("fc.weight")?.to_vec::<f32>()?, [3.0, 4.0]);
/// assert!(params.get("fc.wieght").unwrap_err().to_string().ends_with("did you mean `fc.weight`?"));
/// # Ok::<(), acclimate_train::Error>(())
/// ```
#[derive(Clone)]
pub struct Params {
    main: Arena,
    buffers: Option<Arena>,
    overrides: Arc<BTreeMap<String, Tensor>>,
}

/// Making and reading.
impl Params {
    /// Parameters of these values, in this order; of kind [`Kind::Other`], without buffers. Fails on no parameters, a
    /// path used twice, or values that do not fill their shape.
    pub fn from_named(device: &Device, named: Vec<Named>) -> Result<Self> {
        let items: Vec<(Named, Kind)> = named.into_iter().map(|n| (n, Kind::Other)).collect();
        Self::from_items(device, &items, &[])
    }

    /// Parameters and buffers with their kinds.
    pub fn from_items(device: &Device, params: &[(Named, Kind)], buffers: &[(Named, Kind)]) -> Result<Self> {
        let Some(main) = Arena::upload(device, params)? else {
            return Err(Error::argument("parameters", "at least one", "none"));
        };
        let buffers = Arena::upload(device, buffers)?;
        let twice = buffers.iter().flat_map(|b| b.index.entries()).find(|e| main.index.get(&e.path).is_some());
        if let Some(entry) = twice {
            return Err(Error::DuplicatePath { path: entry.path.clone() });
        }
        Ok(Params { main, buffers, overrides: Arc::default() })
    }

    /// A parameter, as a view of the arena, or its override. An unknown path suggests the nearest.
    pub fn get(&self, path: &str) -> Result<Tensor> {
        match self.overrides.get(path) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.main.view(self.main.index.require("parameter", path)?),
        }
    }

    /// A buffer, as a view of the buffers' arena, or its override.
    pub fn buffer(&self, path: &str) -> Result<Tensor> {
        if let Some(tensor) = self.overrides.get(path) {
            return Ok(tensor.clone());
        }
        match &self.buffers {
            Some(arena) => arena.view(arena.index.require("buffer", path)?),
            None => Err(Error::UnknownPath { what: "buffer", path: path.to_owned(), nearest: None }),
        }
    }

    /// The paths of the parameters, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.main.index.entries().iter().map(|e| e.path.as_str())
    }

    /// The paths of the buffers, in order.
    pub fn buffer_paths(&self) -> impl Iterator<Item = &str> {
        self.buffers.iter().flat_map(|b| b.index.entries()).map(|e| e.path.as_str())
    }

    /// The paths of the parameters for which `choose(path, kind)` holds, in order.
    pub fn select(&self, choose: impl Fn(&str, Kind) -> bool) -> Vec<String> {
        let chosen = self.main.index.entries().iter().filter(|e| choose(&e.path, e.kind));
        chosen.map(|e| e.path.clone()).collect()
    }

    /// Where each parameter stands in the arena.
    pub fn index(&self) -> &Arc<Index> {
        &self.main.index
    }

    /// Where each buffer stands in the buffers' arena, if there are buffers.
    pub fn buffer_index(&self) -> Option<&Arc<Index>> {
        self.buffers.as_ref().map(|b| &b.index)
    }

    /// All parameters as one f32 tensor `[n]`; overrides are not in it. Between parameters lie zeros.
    pub fn arena(&self) -> &Tensor {
        &self.main.tensor
    }

    /// All buffers as one f32 tensor, if there are buffers.
    pub fn buffer_arena(&self) -> Option<&Tensor> {
        self.buffers.as_ref().map(|b| &b.tensor)
    }

    /// The overrides, by path.
    pub fn overrides(&self) -> &BTreeMap<String, Tensor> {
        &self.overrides
    }

    /// Where they live.
    pub fn device(&self) -> &Device {
        self.main.tensor.device()
    }

    /// Number of values of the parameters, buffers and padding excluded.
    pub fn n_values(&self) -> usize {
        self.main.index.n_values()
    }
}

/// New parameters from old.
impl Params {
    /// The same layout with other values: new parameters, or gradients, or moments. Overrides are dropped.
    pub fn with_arena(&self, arena: Tensor) -> Result<Self> {
        let main = Arena::new(self.main.index.clone(), arena)?;
        Ok(Params { main, buffers: self.buffers.clone(), overrides: Arc::default() })
    }

    /// The same with another arena of buffers.
    pub fn with_buffer_arena(&self, arena: Tensor) -> Result<Self> {
        let Some(old) = &self.buffers else {
            return Err(Error::argument("buffers", "none, as the parameters have none", "an arena"));
        };
        let buffers = Some(Arena::new(old.index.clone(), arena)?);
        Ok(Params { main: self.main.clone(), buffers, overrides: self.overrides.clone() })
    }

    /// The same with new values for some buffers, as a forward pass in training records them.
    pub fn with_buffers(&self, updates: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let mut updates: BTreeMap<String, Tensor> = updates.into_iter().collect();
        if updates.is_empty() {
            return Ok(self.clone());
        }
        let Some(old) = &self.buffers else {
            let path = updates.into_keys().next().unwrap_or_default();
            return Err(Error::UnknownPath { what: "buffer", path, nearest: None });
        };
        for (path, tensor) in &updates {
            require_shape(old.index.require("buffer", path)?, tensor)?;
        }
        let mut pieces = Vec::new();
        for entry in old.index.entries() {
            let value = updates.remove(&entry.path).map_or_else(|| old.view(entry), Ok)?;
            pieces.push(value.reshape(&[entry.shape.numel()])?);
        }
        self.with_buffer_arena(assemble(&old.index, &pieces)?)
    }

    /// The same without buffers.
    pub fn without_buffers(&self) -> Self {
        Params { main: self.main.clone(), buffers: None, overrides: self.overrides.clone() }
    }

    /// The same with values that win over the arenas. Each must have the shape of its parameter or buffer; under
    /// `vmap` that is the shape for one input. They are added to the overrides there are.
    pub fn with_overrides(&self, overrides: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let mut all = (*self.overrides).clone();
        for (path, tensor) in overrides {
            let buffer = self.buffers.as_ref().and_then(|b| b.index.get(&path));
            let entry = match buffer {
                Some(entry) => entry,
                None => self.main.index.require("parameter", &path)?,
            };
            require_shape(entry, &tensor)?;
            all.insert(path, tensor);
        }
        Ok(Params { main: self.main.clone(), buffers: self.buffers.clone(), overrides: Arc::new(all) })
    }

    /// The same with low-rank additions to weights, which linear layers and convolutions add to what they compute: `up` ·
    /// (`down` · x). Shapes: of a linear weight [o, i] down [r, i] and up [o, r]; of a convolution's [o, i, kh, kw] down
    /// [r, i, kh, kw] and up [o, r]. Under `vmap` each input may have its own, and the weight itself stays shared.
    pub fn with_low_rank(&self, parts: impl IntoIterator<Item = (String, Tensor, Tensor)>) -> Result<Self> {
        let mut all = (*self.overrides).clone();
        for (path, down, up) in parts {
            let weight = &self.main.index.require("parameter", &path)?.shape;
            let rank = down.dims().first().copied().unwrap_or(0);
            let fits = matches!(weight.rank(), 2 | 4)
                && rank > 0
                && down.rank() == weight.rank()
                && down.dims()[1..] == weight.dims()[1..]
                && up.dims() == [weight.dims()[0], rank];
            if !fits {
                let found = format!("down {} and up {}", down.shape(), up.shape());
                return Err(Error::argument(
                    "low-rank addition",
                    format!("[r, ..] and [o, r] for `{path}` of shape {weight}"),
                    found,
                ));
            }
            let [down_path, up_path] = low_rank_paths(&path);
            all.insert(down_path, down);
            all.insert(up_path, up);
        }
        Ok(Params { main: self.main.clone(), buffers: self.buffers.clone(), overrides: Arc::new(all) })
    }

    /// The low-rank addition to a weight, if there is one: down and up.
    pub fn low_rank(&self, path: &str) -> Option<(Tensor, Tensor)> {
        let [down, up] = low_rank_paths(path);
        Some((self.overrides.get(&down)?.clone(), self.overrides.get(&up)?.clone()))
    }

    /// The same with every parameter of `part` as an override.
    pub fn overlaid(&self, part: &Params) -> Result<Self> {
        let each = part.paths().map(|path| Ok::<_, Error>((path.to_owned(), part.get(path)?)));
        self.with_overrides(each.collect::<Result<Vec<_>>>()?)
    }

    /// Some of the parameters in an arena of their own, packed together: what moves, say. Overrides count.
    pub fn subset(&self, paths: &[String]) -> Result<Self> {
        let index = Arc::new(self.main.index.subset(paths)?);
        let pieces = index.entries().iter().map(|e| Ok::<_, Error>(self.get(&e.path)?.reshape(&[e.shape.numel()])?));
        let tensor = assemble(&index, &pieces.collect::<Result<Vec<_>>>()?)?;
        Ok(Params { main: Arena { index, tensor }, buffers: None, overrides: Arc::default() })
    }

    /// Zeros in the same layout, without buffers and overrides: moments, for example.
    pub fn zeros_like(&self) -> Result<Self> {
        self.without_buffers().with_arena(self.main.tensor.zeros_like()?)
    }

    /// The gradient of a one-element loss: same layout, and the same overrides if there are any. Buffers have none.
    pub fn grad(&self, loss: &Tensor) -> Result<Self> {
        Ok(grad(loss, self.without_buffers())?)
    }

    /// The Euclidean norm over all parameters, a scalar; overrides are not in it.
    pub fn norm(&self) -> Result<Tensor> {
        Ok(self.main.tensor.square()?.sum(&[0])?.sqrt()?)
    }

    /// The same on another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |a: &Arena| Ok::<_, Error>(Arena { index: a.index.clone(), tensor: a.tensor.to_device(device)? });
        let overrides = self.overrides.iter().map(|(path, t)| Ok::<_, Error>((path.clone(), t.to_device(device)?)));
        Ok(Params {
            main: moved(&self.main)?,
            buffers: self.buffers.as_ref().map(moved).transpose()?,
            overrides: Arc::new(overrides.collect::<Result<BTreeMap<_, _>>>()?),
        })
    }
}

/// Values to and from the host.
impl Params {
    /// Parameters and buffers with their kinds, as [`Params::from_items`] takes them.
    pub fn to_items(&self) -> Result<[Vec<(Named, Kind)>; 2]> {
        let kinds = |named: Vec<Named>, index: Option<&Arc<Index>>| -> Vec<(Named, Kind)> {
            let kind = |path: &str| index.and_then(|i| i.get(path)).map_or(Kind::Other, |e| e.kind);
            named.into_iter().map(|n| (kind(&n.0), n)).map(|(kind, n)| (n, kind)).collect()
        };
        Ok([kinds(self.to_named()?, Some(self.index())), kinds(self.buffers_to_named()?, self.buffer_index())])
    }

    /// The parameters' values in order; overrides count, buffers are apart.
    pub fn to_named(&self) -> Result<Vec<Named>> {
        self.read(&self.main)
    }

    /// The buffers' values in order.
    pub fn buffers_to_named(&self) -> Result<Vec<Named>> {
        self.buffers.as_ref().map_or(Ok(Vec::new()), |buffers| self.read(buffers))
    }

    /// The parameters' values in order, then the buffers': what a file of weights holds.
    pub fn all_to_named(&self) -> Result<Vec<Named>> {
        let mut named = self.to_named()?;
        named.extend(self.buffers_to_named()?);
        Ok(named)
    }

    fn read(&self, arena: &Arena) -> Result<Vec<Named>> {
        let all = arena.tensor.to_vec::<f32>()?;
        let one = |e: &Entry| {
            let values = match self.overrides.get(&e.path) {
                Some(tensor) => tensor.to_vec::<f32>()?,
                None => all[e.offset..e.offset + e.shape.numel()].to_vec(),
            };
            Ok((e.path.clone(), e.shape.to_vec(), values))
        };
        arena.index.entries().iter().map(one).collect()
    }

    /// The same layout and device with these values for all parameters and buffers. `place` says in errors where they
    /// came from. Fails on a path that is unknown, missing or given twice, and on another shape.
    pub fn with_values(&self, named: Vec<Named>, place: &str) -> Result<Self> {
        let mut given = BTreeMap::new();
        for (path, dims, values) in named {
            let buffer = self.buffers.as_ref().and_then(|b| b.index.get(&path));
            let entry = match buffer {
                Some(entry) => entry,
                None => self.main.index.require("parameter", &path)?,
            };
            if entry.shape.dims() != dims || values.len() != entry.shape.numel() {
                return Err(Error::ValueShape { path, expected: entry.shape.clone(), found: dims });
            }
            if given.insert(path.clone(), values).is_some() {
                return Err(Error::DuplicatePath { path });
            }
        }
        let upload = |arena: &Arena, what: &'static str| {
            let values = arena.index.pack(|e| match given.get(&e.path) {
                Some(values) => Ok(values.as_slice()),
                None => {
                    let (path, shape) = (e.path.clone(), e.shape.clone());
                    Err(Error::MissingPath { what, path, place: place.to_owned(), shape })
                }
            })?;
            let tensor = Tensor::from_slice(self.device(), &values, &[arena.index.len()])?;
            Ok::<_, Error>(Arena { index: arena.index.clone(), tensor })
        };
        let main = upload(&self.main, "parameter")?;
        let buffers = self.buffers.as_ref().map(|b| upload(b, "buffer")).transpose()?;
        Ok(Params { main, buffers, overrides: Arc::default() })
    }

    /// BLAKE3, in hex, over path, sizes and bits of every parameter and buffer in the order of their paths. Padding is
    /// not in it; overrides are.
    pub fn hash(&self) -> Result<String> {
        Ok(hash::of(self.to_named()?, self.buffers_to_named()?))
    }
}

/// Where the two factors of a weight's low-rank addition are kept among the overrides.
fn low_rank_paths(path: &str) -> [String; 2] {
    ["down", "up"].map(|factor| format!("{path}#{factor}"))
}

fn require_shape(entry: &Entry, tensor: &Tensor) -> Result<()> {
    if tensor.shape() == &entry.shape {
        return Ok(());
    }
    let (expected, found) = (entry.shape.clone(), tensor.dims().to_vec());
    Err(Error::ValueShape { path: entry.path.clone(), expected, found })
}

/// Flat pieces, one for each entry, at their offsets.
fn assemble(index: &Index, pieces: &[Tensor]) -> Result<Tensor> {
    let offsets: Vec<usize> = index.entries().iter().map(|e| e.offset).collect();
    Ok(Tensor::assemble(&pieces.iter().collect::<Vec<_>>(), &offsets, index.len())?)
}

/// All of [`Params`] but the tensors.
#[derive(Clone, PartialEq)]
pub struct ParamsForm {
    main: Arc<Index>,
    buffers: Option<Arc<Index>>,
    overrides: Vec<String>,
}

impl Tree for Params {
    type Form = ParamsForm;

    fn take_apart(self, leaves: &mut Vec<Tensor>) -> ParamsForm {
        let overrides = self.overrides.keys().cloned().collect();
        leaves.push(self.main.tensor);
        let buffers = self.buffers.map(|b| {
            leaves.push(b.tensor);
            b.index
        });
        // Moved out where nobody else holds them, so that they can be donated.
        let values = Arc::try_unwrap(self.overrides).unwrap_or_else(|shared| (*shared).clone());
        leaves.extend(values.into_values());
        ParamsForm { main: self.main.index, buffers, overrides }
    }

    fn put_together(form: &ParamsForm, leaves: &mut dyn Iterator<Item = Tensor>) -> acclimate_tensor::Result<Self> {
        let too_few = || acclimate_tensor::Error::internal("tree", "too few tensors for parameters");
        let mut arena = |index: &Arc<Index>| {
            Ok::<_, acclimate_tensor::Error>(Arena { index: index.clone(), tensor: leaves.next().ok_or_else(too_few)? })
        };
        let main = arena(&form.main)?;
        let buffers = form.buffers.as_ref().map(&mut arena).transpose()?;
        let mut overrides = BTreeMap::new();
        for path in &form.overrides {
            overrides.insert(path.clone(), leaves.next().ok_or_else(too_few)?);
        }
        Ok(Params { main, buffers, overrides: Arc::new(overrides) })
    }
}

impl fmt::Debug for Params {
    /// What there is, never the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_buffers = self.buffers.as_ref().map_or(0, |b| b.index.entries().len());
        let n_params = self.main.index.entries().len();
        let n_overrides = self.overrides.len();
        write!(f, "Params({n_params} of {} values, {n_buffers} buffers, {n_overrides} overrides)", self.n_values())
    }
}
