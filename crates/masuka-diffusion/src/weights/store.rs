//! `Weights`: the view through which a model file asks for its tensors, by the names of its checkpoint.
//!
//! The store remembers what was asked for, so that a checkpoint with tensors that nobody wanted is refused, and
//! collects the adapter slot of every linear layer, so that LoRA can find it by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

use super::source::TensorSource;
use crate::adapters::AdapterSlot;
use crate::error::{Error, Result};
use crate::ops::{FrozenWeight, PackedWeight, Packing, pack_blocks};

/// The weight of a linear layer, (out, in).
pub enum LinearWeight {
    /// Numbers in the component's dtype, ready to be multiplied.
    Frozen(FrozenWeight),
    /// GGUF blocks, expanded when they are used.
    Quantized(Arc<QTensor>),
}

/// A table (rows, d) whose rows are looked up.
pub enum Table {
    /// Numbers in the component's dtype.
    Dense(Tensor),
    /// GGUF blocks, expanded when they are used.
    Quantized(Arc<QTensor>),
}

/// A component's tensors below a prefix.
#[derive(Clone)]
pub struct Weights {
    component: Arc<Component>,
    prefix: String,
}

struct Component {
    source: Box<dyn TensorSource>,
    dtype: DType,
    /// Which matrices of linear layers are quantised.
    takes_int8: fn(&str) -> bool,
    device: Device,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    used: BTreeSet<String>,
    slots: BTreeMap<String, Arc<AdapterSlot>>,
}

impl Component {
    /// Bytes that the tensor `name` takes in memory.
    fn resident_bytes(&self, name: &str) -> u64 {
        let shape = self.source.shape(name).unwrap_or_default();
        match shape.as_slice() {
            [rows, columns] if (self.takes_int8)(name) => {
                (rows * columns + rows * PackedWeight::INT8_ROW_BYTES) as u64
            }
            _ => self.source.resident_bytes(name, self.dtype),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Weights {
    /// A view on all of `source`; tensors will be `dtype` on `device`.
    pub fn new(source: Box<dyn TensorSource>, dtype: DType, device: &Device) -> Self {
        let device = device.clone();
        let takes_int8 = |_: &str| false;
        let component = Component { source, dtype, takes_int8, device, ledger: Mutex::default() };
        Self { component: Arc::new(component), prefix: String::new() }
    }

    /// The same, not yet used, with the matrices of linear layers for which `takes_int8` holds in int8.
    #[must_use]
    pub fn with_int8(self, takes_int8: fn(&str) -> bool) -> Self {
        let component = Arc::try_unwrap(self.component).unwrap_or_else(|shared| {
            unreachable!("{} views of new weights", Arc::strong_count(&shared))
        });
        Self { component: Arc::new(Component { takes_int8, ..component }), prefix: self.prefix }
    }

    /// The view below `name`: `weights.at("encoder").at(3)` sees `encoder.3.*`.
    #[must_use]
    pub fn at(&self, name: impl Display) -> Self {
        Self { component: self.component.clone(), prefix: self.full_name(name) }
    }

    /// The dtype of the tensors that come out.
    pub fn dtype(&self) -> DType {
        self.component.dtype
    }

    /// The device of the tensors that come out.
    pub fn device(&self) -> &Device {
        &self.component.device
    }

    /// The dotted name of this view.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether `name` is there.
    pub fn contains(&self, name: &str) -> bool {
        self.component.source.shape(&self.full_name(name)).is_some()
    }

    /// The matrices (rows, columns) below this view, vectors being of one column: the layer of each, without its
    /// `.weight`.
    pub fn matrices(&self) -> BTreeMap<String, (usize, usize)> {
        let source = &self.component.source;
        let matrix = |name: String| match source.shape(&name)?.as_slice() {
            [rows, columns] => Some((name.strip_suffix(".weight")?.to_owned(), (*rows, *columns))),
            [rows] => Some((name.strip_suffix(".weight")?.to_owned(), (*rows, 1))),
            _ => None,
        };
        source.names().into_iter().filter_map(matrix).collect()
    }

    /// Bytes that everything below this view takes in memory.
    pub fn bytes(&self) -> u64 {
        self.names_below().map(|name| self.component.resident_bytes(&name)).sum()
    }

    /// Bytes that using any one tensor below this view takes beside that.
    pub fn transient_bytes(&self) -> u64 {
        let (source, dtype) = (&self.component.source, self.dtype());
        self.names_below().map(|name| source.transient_bytes(&name, dtype)).max().unwrap_or(0)
    }

    fn names_below(&self) -> impl Iterator<Item = String> {
        let below = |name: &String| {
            let rest = name.strip_prefix(&self.prefix);
            self.prefix.is_empty() || rest.is_some_and(|rest| rest.starts_with('.'))
        };
        self.component.source.names().into_iter().filter(below)
    }

    /// The tensor `name` in the component's dtype.
    ///
    /// # Errors
    /// When it is missing or its shape is not `shape`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensor_as(name, shape, self.dtype())
    }

    /// The tensor `name` as `dtype`, whatever the component's is.
    ///
    /// # Errors
    /// When it is missing or its shape is not `shape`.
    pub fn tensor_as(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let name = self.claim(name, shape)?;
        self.component.source.load(&name, dtype, self.device())
    }

    /// The matrix (out, in) of a linear layer, packed for the processor or quantised where that is of use.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn linear_weight(&self, name: &str, shape: [usize; 2]) -> Result<LinearWeight> {
        let name = self.claim(name, &shape)?;
        let (source, dtype, device) = (&self.component.source, self.dtype(), self.device());
        if (self.component.takes_int8)(&name) {
            let packed = match source.pack(&name, Packing::Int8)? {
                Some(packed) => packed,
                None => match source.load_blocks(&name, device)? {
                    Some(blocks) => pack_blocks(&blocks, Packing::Int8)?,
                    None => PackedWeight::int8(&source.load(&name, DType::F32, device)?)?,
                },
            };
            return Ok(LinearWeight::Frozen(FrozenWeight::Packed(Arc::new(packed))));
        }
        if let Some(blocks) = source.load_blocks(&name, device)? {
            return Ok(LinearWeight::Quantized(Arc::new(blocks)));
        }
        let packing = Packing::of(dtype).filter(|_| device.is_cpu());
        let packed = packing.map(|packing| source.pack(&name, packing)).transpose()?.flatten();
        Ok(LinearWeight::Frozen(match packed {
            Some(packed) => FrozenWeight::Packed(Arc::new(packed)),
            None => FrozenWeight::new(source.load(&name, dtype, device)?)?,
        }))
    }

    /// A table (rows, d), which may stay quantised.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Table> {
        let name = self.claim(name, &shape)?;
        let (source, device) = (&self.component.source, self.device());
        Ok(match source.load_blocks(&name, device)? {
            Some(blocks) => Table::Quantized(Arc::new(blocks)),
            None => Table::Dense(source.load(&name, self.dtype(), device)?),
        })
    }

    /// A slot for the adapters of the linear layer that this view stands on.
    pub fn adapter_slot(&self, in_features: usize, out_features: usize) -> Arc<AdapterSlot> {
        // A streamed block is loaded many times; its adapters stay.
        let mut ledger = self.component.ledger();
        let new = || Arc::new(AdapterSlot::new(in_features, out_features));
        ledger.slots.entry(self.prefix.clone()).or_insert_with(new).clone()
    }

    /// Likewise of a norm.
    pub fn norm_slot(&self, channels: usize) -> Arc<AdapterSlot> {
        let mut ledger = self.component.ledger();
        let new = || Arc::new(AdapterSlot::of_norm(channels));
        ledger.slots.entry(self.prefix.clone()).or_insert_with(new).clone()
    }

    /// Notes that tensors below this view are known and of no use here (such as buffers that are computed).
    pub fn ignore(&self, name: &str) {
        self.component.ledger().used.insert(self.full_name(name));
    }

    /// Ends loading: the slots of all linear layers and norms by name.
    ///
    /// # Errors
    /// [`Error::UnknownTensors`] when the checkpoint holds tensors that nobody asked for.
    pub fn finish(&self) -> Result<BTreeMap<String, Arc<AdapterSlot>>> {
        let ledger = self.component.ledger();
        let source = &self.component.source;
        let mut unknown = source.names().into_iter().filter(|name| !ledger.used.contains(name));
        if let Some(first) = unknown.next() {
            let count = 1 + unknown.count();
            let file = source.location(&first);
            let first = source.spelling(&first);
            return Err(Error::UnknownTensors { count, first, file });
        }
        Ok(ledger.slots.clone())
    }

    fn full_name(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Checks that `name` is there with `shape` and marks it used.
    fn claim(&self, name: &str, shape: &[usize]) -> Result<String> {
        let name = self.full_name(name);
        let source = &self.component.source;
        let found = source.shape(&name).ok_or_else(|| source.missing(&name))?;
        if found != shape {
            return Err(source.misshapen(&name, shape));
        }
        self.component.ledger().used.insert(name.clone());
        Ok(name)
    }
}
