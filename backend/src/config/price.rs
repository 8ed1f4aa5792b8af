//! What a model costs (`models[].price`), written as in the filter's configuration: rates, or the
//! name of a model in the built-in catalogue.

use farthing_core::config::Usd;
use farthing_core::price::{Catalogue, Price, Rates};
use serde::{Deserialize, Serialize, Serializer};

use super::{ModelKind, wrong};
use crate::error::BackendError;

/// The price of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// A model of the built-in catalogue, instead of rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    catalogue: Option<String>,
    /// For a million prompt tokens.
    #[serde(serialize_with = "dollars", skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    input_usd_per_mtok: Option<Usd>,
    /// For a million completion tokens; an embedding model has none.
    #[serde(serialize_with = "dollars", skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    output_usd_per_mtok: Option<Usd>,
    /// For a million prompt tokens that were cached; as the input if absent.
    #[serde(serialize_with = "dollars", skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    cache_read_usd_per_mtok: Option<Usd>,
}

/// Dollars as text, which reads back exactly.
pub(super) fn dollars<S: Serializer>(usd: &Option<Usd>, to: S) -> Result<S::Ok, S::Error> {
    match usd {
        Some(usd) => to.serialize_str(&usd.0.to_string()),
        None => to.serialize_none(),
    }
}

impl PriceConfig {
    /// Refuses what is no price, by its path.
    pub(super) fn check(&self, at: &str, kind: ModelKind) -> Result<(), BackendError> {
        let rates = [
            ("input_usd_per_mtok", self.input_usd_per_mtok),
            ("output_usd_per_mtok", self.output_usd_per_mtok),
        ];
        let Some(name) = &self.catalogue else {
            let needed = match kind {
                ModelKind::Chat => rates.as_slice(),
                ModelKind::Embedding => &rates[..1],
            };
            return match needed.iter().find(|(_, rate)| rate.is_none()) {
                Some((field, _)) => {
                    Err(wrong(format!("{at}.{field}"), "is needed, or `catalogue`"))
                }
                None => Ok(()),
            };
        };
        let cached = ("cache_read_usd_per_mtok", self.cache_read_usd_per_mtok);
        if let Some((field, _)) = rates
            .iter()
            .chain([&cached])
            .find(|(_, rate)| rate.is_some())
        {
            let reason = "is the catalogue's to say";
            return Err(wrong(format!("{at}.{field}"), reason));
        }
        match Catalogue::built_in().find(name) {
            Some(_) => Ok(()),
            None => {
                let reason = format!("the price catalogue has no model \"{name}\"");
                Err(wrong(format!("{at}.catalogue"), reason))
            }
        }
    }

    /// The price; that of the catalogue has been checked to be there.
    pub fn price(&self) -> Price {
        let listed = self.catalogue.as_ref();
        if let Some(price) = listed.and_then(|name| Catalogue::built_in().find(name)) {
            return price;
        }
        let rate = |usd: Option<Usd>| usd.map_or(0, |usd| usd.0.0);
        let (input, output) = (
            rate(self.input_usd_per_mtok),
            rate(self.output_usd_per_mtok),
        );
        let cached = self.cache_read_usd_per_mtok.map_or(input, |usd| usd.0.0);
        Price::flat(Rates {
            cache_read_nanousd_per_mtok: cached,
            ..Rates::plain(input, output)
        })
    }
}
