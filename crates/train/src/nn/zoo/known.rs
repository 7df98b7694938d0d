//! Which known network a file of weights is of, and the images that it answers.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{CifarResNet, EfficientNetLite0};
use crate::data::{Images, cifar, imagenet};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::params::Named;

/// A network that other people train and publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// [`CifarResNet`] of this depth for ten classes.
    CifarResNet(usize),
    /// [`EfficientNetLite0`] for 1000 classes.
    EfficientNetLite0,
}

/// Side of the images that EfficientNet-Lite0 is trained on.
const IMAGENET_SIDE: usize = 224;

impl Network {
    /// The network with such parameters, told by their names. Fails if none of them has these.
    pub fn of_weights(named: &[Named]) -> Result<Self> {
        let has = |path: &str| named.iter().any(|(own, ..)| own == path);
        let blocks = (0..).take_while(|i| has(&format!("layer1.{i}.conv1.weight"))).count();
        if blocks > 0 {
            return Ok(Network::CifarResNet(6 * blocks + 2));
        }
        if has("_conv_stem.weight") {
            return Ok(Network::EfficientNetLite0);
        }
        let found = named.first().map_or("no weights".to_owned(), |(path, ..)| format!("`{path}` and others"));
        let expected = "`layer1.0.conv1.weight` of a CIFAR-10 ResNet or `_conv_stem.weight` of EfficientNet-Lite0";
        Err(Error::argument("weights of a known network", expected, found))
    }

    /// The network, for images with pixels in [0, 1].
    pub fn layer(self) -> Result<Arc<dyn Layer>> {
        Ok(match self {
            Network::CifarResNet(depth) => Arc::new(CifarResNet::for_pixels(depth, 10)?),
            Network::EfficientNetLite0 => Arc::new(EfficientNetLite0::for_pixels([IMAGENET_SIDE; 2], 1000)?),
        })
    }

    /// Images for it: records of CIFAR-10 ([`cifar::cifar10`]), or pictures of ImageNet, cut to the middle
    /// ([`imagenet::read`]).
    ///
    /// # Errors
    /// As these.
    pub fn images(self, path: impl AsRef<Path>) -> Result<Images> {
        Ok(match self {
            Network::CifarResNet(_) => cifar::cifar10(path)?,
            Network::EfficientNetLite0 => imagenet::read(path, IMAGENET_SIDE)?,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::CifarResNet(depth) => write!(f, "ResNet-{depth}"),
            Network::EfficientNetLite0 => f.write_str("EfficientNet-Lite0"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_by_its_weights() {
        let named = |paths: &[&str]| paths.iter().map(|p| ((*p).to_owned(), vec![], vec![])).collect::<Vec<Named>>();
        let resnet: Vec<String> = (0..3).map(|i| format!("layer1.{i}.conv1.weight")).collect();
        let resnet = named(&resnet.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(Network::of_weights(&resnet).unwrap(), Network::CifarResNet(20));
        assert_eq!(Network::of_weights(&named(&["_conv_stem.weight"])).unwrap(), Network::EfficientNetLite0);
        let error = Network::of_weights(&named(&["features.0.weight"])).unwrap_err().to_string();
        assert!(error.contains("features.0.weight") && error.contains("_conv_stem"), "{error}");
        assert!(Network::of_weights(&[]).is_err());
    }
}
