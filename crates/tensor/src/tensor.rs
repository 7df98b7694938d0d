//! The lazy tensor: a cheap handle to a node of a graph. Methods record nodes; nothing runs until a value is asked for.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smallvec::SmallVec;

use crate::device::{Device, EngineKind};
use crate::dtype::{DType, Element};
use crate::engine::Buffer;
use crate::error::{Error, Result};
use crate::eval;
use crate::op::Op;
use crate::reading::Reading;
use crate::shape::{Shape, Spec};

thread_local! {
    static ON_BEHALF: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
}

/// While it lives, what this thread records counts as recorded at another place: gradients and batched ops at that of the op
/// that they are of, so that labels and errors name the user's line.
pub(crate) struct OnBehalf(Option<&'static Location<'static>>);

impl OnBehalf {
    pub fn of(node: &Node) -> Self {
        OnBehalf(ON_BEHALF.replace(Some(node.at)))
    }
}

impl Drop for OnBehalf {
    fn drop(&mut self) {
        ON_BEHALF.set(self.0);
    }
}

/// What a node is now.
pub(crate) enum State {
    /// Recorded, not computed.
    Pending { op: Arc<dyn Op>, inputs: Vec<Tensor> },
    /// Computed or given: one buffer per output. `computed`: it had a history, which is gone.
    Ready { buffers: Vec<Buffer>, computed: bool },
    /// Stands for a value while a function is traced.
    Placeholder,
}

/// A node of the graph.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) specs: Vec<Spec>,
    pub(crate) device: Device,
    pub(crate) at: &'static Location<'static>,
    state: Mutex<State>,
    /// Nodes that were recorded on this one; those that nobody holds any more are swept out as the list grows.
    readers: Mutex<Vec<Weak<Node>>>,
}

impl Node {
    fn new(specs: Vec<Spec>, device: Device, at: &'static Location<'static>, state: State) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Node { id, specs, device, at, state: Mutex::new(state), readers: Mutex::default() })
    }

    /// Nodes recorded on this one that somebody still holds.
    pub(crate) fn readers(&self) -> Vec<Arc<Node>> {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.iter().filter_map(Weak::upgrade).collect()
    }

    fn add_reader(&self, reader: &Arc<Node>) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() == readers.capacity() {
            readers.retain(|r| r.strong_count() > 0);
        }
        readers.push(Arc::downgrade(reader));
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    /// Iterative: a chain of a million nodes must not exhaust the stack.
    fn drop(&mut self) {
        let mut stack = take_inputs(&mut self.state);
        while let Some(tensor) = stack.pop() {
            if let Some(mut node) = Arc::into_inner(tensor.node) {
                stack.append(&mut take_inputs(&mut node.state));
            }
        }
    }
}

fn take_inputs(state: &mut Mutex<State>) -> Vec<Tensor> {
    match state.get_mut().unwrap_or_else(PoisonError::into_inner) {
        State::Pending { inputs, .. } => std::mem::take(inputs),
        _ => Vec::new(),
    }
}

/// A tensor: shape, dtype, device, and a recipe or a value. Cheap to clone; clones are the same value.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) node: Arc<Node>,
    pub(crate) out: usize,
}

impl Tensor {
    // -- creation -------------------------------------------------------------------------------------------------

    /// A tensor of `data`, row-major. Fails if the shape has another number of elements.
    #[track_caller]
    pub fn from_slice<T: Element>(device: &Device, data: &[T], dims: &[usize]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        if shape.numel() != data.len() {
            let expected = format!("{} elements for shape {shape}", shape.numel());
            return Err(Error::shape("from_slice", expected, format!("{} elements", data.len())));
        }
        Self::from_bytes(device, bytemuck::cast_slice(data), Spec::new(shape, T::DTYPE))
    }

    /// A boolean tensor.
    #[track_caller]
    pub fn from_bools(device: &Device, data: &[bool], dims: &[usize]) -> Result<Self> {
        let words: Vec<u32> = data.iter().map(|&b| u32::from(b)).collect();
        let words = Self::from_slice(device, &words, dims)?;
        Ok(words.with_spec(words.spec().with_dtype(DType::Bool)))
    }

    /// A tensor of raw little-endian bytes, of exactly the size the spec needs (halves padded to whole words are
    /// accepted as well).
    #[track_caller]
    pub fn from_bytes(device: &Device, bytes: &[u8], spec: Spec) -> Result<Self> {
        let at = Location::caller();
        let exact = match spec.dtype {
            DType::F16 => spec.numel() * 2,
            _ => spec.bytes(),
        };
        if bytes.len() != exact && bytes.len() != spec.bytes() {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::shape("from_bytes", format!("{exact} bytes for {spec}"), found));
        }
        let mut padded;
        let bytes = if bytes.len().is_multiple_of(4) {
            bytes
        } else {
            padded = bytes.to_vec();
            padded.resize(spec.bytes(), 0);
            &padded
        };
        let buffer = device.0.engine.upload(bytes)?;
        let state = State::Ready { buffers: vec![buffer], computed: false };
        Ok(Tensor { node: Node::new(vec![spec], device.clone(), at, state), out: 0 })
    }

    /// An `ndarray` array, in logical (row-major) order whatever its memory order.
    #[track_caller]
    pub fn from_ndarray<T: Element, D: ndarray::Dimension>(
        device: &Device,
        array: &ndarray::ArrayRef<T, D>,
    ) -> Result<Self> {
        match array.as_slice() {
            Some(data) => Self::from_slice(device, data, array.shape()),
            None => Self::from_slice(device, &array.iter().copied().collect::<Vec<T>>(), array.shape()),
        }
    }

    pub(crate) fn placeholder(spec: Spec, device: &Device, at: &'static Location<'static>) -> Self {
        Tensor { node: Node::new(vec![spec], device.clone(), at, State::Placeholder), out: 0 }
    }

    pub(crate) fn ready(spec: Spec, device: &Device, at: &'static Location<'static>, buffer: Buffer) -> Self {
        let state = State::Ready { buffers: vec![buffer], computed: true };
        Tensor { node: Node::new(vec![spec], device.clone(), at, state), out: 0 }
    }

    /// The same value under another spec of the same bytes (bool and u32).
    fn with_spec(&self, spec: Spec) -> Self {
        match &*self.node.state() {
            State::Ready { buffers, computed } => {
                let state = State::Ready { buffers: vec![buffers[self.out].clone()], computed: *computed };
                Tensor { node: Node::new(vec![spec], self.node.device.clone(), self.node.at, state), out: 0 }
            }
            _ => self.clone(),
        }
    }

    /// Records an op: checks devices and shapes at once, computes nothing. One tensor per output.
    #[track_caller]
    pub fn record(op: Arc<dyn Op>, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let at = Location::caller();
        let first = inputs.first().ok_or_else(|| Error::shape(op.name(), "at least one input", "none"))?;
        for other in &inputs[1..] {
            first.node.device.require_same(op.name(), &other.node.device)?;
        }
        let specs: Vec<Spec> = inputs.iter().map(|t| t.spec().clone()).collect();
        let outputs = op.shape(&specs)?;
        let inputs = inputs.iter().map(|&t| t.clone()).collect();
        Ok(Self::from_op(op, inputs, outputs, &first.node.device, at))
    }

    pub(crate) fn from_op(
        op: Arc<dyn Op>,
        inputs: Vec<Tensor>,
        specs: Vec<Spec>,
        device: &Device,
        at: &'static Location<'static>,
    ) -> Vec<Tensor> {
        let n = specs.len();
        let sources: SmallVec<[Arc<Node>; 4]> = inputs.iter().map(|t| t.node.clone()).collect();
        let at = ON_BEHALF.get().unwrap_or(at);
        let node = Node::new(specs, device.clone(), at, State::Pending { op, inputs });
        sources.iter().for_each(|s| s.add_reader(&node));
        (0..n).map(|out| Tensor { node: node.clone(), out }).collect()
    }

    // -- facts ----------------------------------------------------------------------------------------------------

    /// Shape and dtype.
    pub fn spec(&self) -> &Spec {
        &self.node.specs[self.out]
    }

    /// Shape.
    pub fn shape(&self) -> &Shape {
        &self.spec().shape
    }

    /// Sizes.
    pub fn dims(&self) -> &[usize] {
        self.shape().dims()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape().rank()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape().numel()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.spec().dtype
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.node.device
    }

    /// Whether it has a value already.
    pub fn is_ready(&self) -> bool {
        matches!(&*self.node.state(), State::Ready { .. })
    }

    /// Source location that recorded it.
    pub fn recorded_at(&self) -> &'static Location<'static> {
        self.node.at
    }

    /// The node behind it and which of its outputs this is: equal for handles of one value, and for no others while both
    /// live.
    pub fn id(&self) -> (u64, usize) {
        (self.node.id, self.out)
    }

    /// Whether two handles are the same output of the same node.
    pub fn is(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.node, &other.node) && self.out == other.out
    }

    pub(crate) fn buffer(&self) -> Option<Buffer> {
        match &*self.node.state() {
            State::Ready { buffers, .. } => buffers.get(self.out).cloned(),
            _ => None,
        }
    }

    /// The op and the inputs that it will be computed from; none once it has a value. What walks the graph begins here.
    pub fn recipe(&self) -> Option<(Arc<dyn Op>, Vec<Tensor>)> {
        match &*self.node.state() {
            State::Pending { op, inputs } => Some((op.clone(), inputs.clone())),
            _ => None,
        }
    }

    // -- values ---------------------------------------------------------------------------------------------------

    /// The elements, row-major. Computes what is needed and blocks until it is there. Fails if `T` is another dtype
    /// (bool reads as u32).
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.require_readable(T::DTYPE)?;
        let mut elements = Vec::new();
        eval::read(self)?.show(&mut |bytes| elements = decode(bytes, self.numel()))?;
        Ok(elements)
    }

    /// Shows the elements to `f`, row-major: without a copy where the device's memory is the host's. `f` must not wait for
    /// work that writes this tensor.
    pub fn with_data<T: Element, R>(&self, f: impl FnOnce(&[T]) -> R) -> Result<R> {
        self.require_readable(T::DTYPE)?;
        let n = self.numel();
        if self.device().kind() == EngineKind::Cpu {
            eval::realize(&[self])?;
            let buffer = self.buffer().ok_or(Error::Tracing { op: "with_data" })?;
            let (mut f, mut shown) = (Some(f), None);
            self.device().0.engine.look(&buffer, self.spec().bytes(), &mut |bytes| {
                shown = f.take().map(|f| f(bytemuck::cast_slice(bytes)));
            })?;
            return shown.ok_or_else(|| Error::internal("with_data", "nothing was shown"));
        }
        let (mut f, mut shown) = (Some(f), None);
        eval::read(self)?.show(&mut |bytes| {
            shown = f.take().map(|f| match bytemuck::try_cast_slice(bytes) {
                Ok(elements) => f(elements),
                // Mapped memory need not be aligned for every type.
                Err(_) => f(&decode(bytes, n)),
            });
        })?;
        shown.ok_or_else(|| Error::internal("with_data", "nothing was shown"))
    }

    /// As [`Tensor::to_vec`], without blocking: the work is submitted at once, the future completes when it is done.
    pub fn to_vec_async<T: Element>(&self) -> Result<Reading<T>> {
        self.require_readable(T::DTYPE)?;
        Ok(Reading::new(eval::read(self)?, self.numel()))
    }

    /// The only element of a one-element f32 tensor.
    pub fn item(&self) -> Result<f32> {
        if self.numel() != 1 {
            return Err(Error::shape("item", "one element", format!("shape {}", self.shape())));
        }
        Ok(self.to_vec::<f32>()?[0])
    }

    /// The value as an `ndarray` array of the same shape, row-major.
    pub fn to_ndarray<T: Element>(&self) -> Result<ndarray::ArrayD<T>> {
        let data = self.to_vec::<T>()?;
        ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(self.dims()), data)
            .map_err(|e| Error::internal("to_ndarray", e.to_string()))
    }

    /// The same value on another device, through the host.
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if self.device().same(device) {
            return Ok(self.clone());
        }
        let bytes = eval::read(self)?.wait()?.swap_remove(0);
        Self::from_bytes(device, &bytes, self.spec().clone())
    }

    /// Computes tensors without reading them.
    pub fn realize(tensors: &[&Tensor]) -> Result<()> {
        eval::realize(tensors)
    }

    fn require_readable(&self, dtype: DType) -> Result<()> {
        let stored = if self.dtype() == DType::Bool { DType::U32 } else { self.dtype() };
        if stored == dtype {
            return Ok(());
        }
        Err(Error::DType { op: "to_vec", expected: self.dtype().to_string(), found: dtype })
    }
}

pub(crate) fn decode<T: Element>(bytes: &[u8], n: usize) -> Vec<T> {
    let size = std::mem::size_of::<T>();
    bytes.chunks_exact(size).take(n).map(bytemuck::pod_read_unaligned).collect()
}

impl fmt::Debug for Tensor {
    /// The node, never the values: a log line must not start work.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &*self.node.state() {
            State::Pending { op, .. } => op.name(),
            State::Ready { .. } => "value",
            State::Placeholder => "placeholder",
        };
        write!(f, "Tensor({what}: {} on {})", self.spec(), self.node.device.info().name)
    }
}
