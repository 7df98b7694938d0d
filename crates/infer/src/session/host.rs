//! The source model on the host: what a session is built from again when its device is gone.

use std::sync::Arc;

use acclimate_tensor::{Device, EngineKind};
use acclimate_train::Params;
use acclimate_train::params::{Kind, Named};

use crate::error::Error;

/// Values and kinds of all parameters and buffers.
#[derive(Clone)]
pub(crate) struct HostModel {
    params: Arc<Vec<(Named, Kind)>>,
    buffers: Arc<Vec<(Named, Kind)>>,
}

impl HostModel {
    /// A copy of the values, where they could be lost: those of a processor cannot.
    pub fn of(params: &Params) -> Result<Option<Self>, Error> {
        if params.device().kind() != EngineKind::Gpu {
            return Ok(None);
        }
        let [params, buffers] = params.to_items()?.map(Arc::new);
        Ok(Some(HostModel { params, buffers }))
    }

    /// The parameters on a device.
    pub fn to_device(&self, device: &Device) -> Result<Params, Error> {
        Ok(Params::from_items(device, &self.params, &self.buffers)?)
    }
}
