//! What models cost, as it is written: rates, or the name of a model in the catalogue whose rates
//! are taken, with the written ones in their place.

use serde::Deserialize;

use super::ConfigError;
use super::raw::Usd;
use crate::price::{Catalogue, Price, Rates};

/// Whether somebody decided what a model costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceOrigin {
    /// The model's own `price`.
    Model,
    /// `default_price`, which the ledger and a metric tell.
    Default,
}

/// A price as it is written. With `catalogue`, a rate replaces that of every tariff.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct RawPrice {
    /// A model of the built-in catalogue.
    pub catalogue: Option<String>,
    /// For a million prompt tokens. Default: the catalogue's, and needed without one.
    pub input_usd_per_mtok: Option<Usd>,
    /// For a million completion tokens. Default: the catalogue's, and needed without one.
    pub output_usd_per_mtok: Option<Usd>,
    /// For a million prompt tokens that the provider had cached. Default: as the input.
    pub cache_read_usd_per_mtok: Option<Usd>,
    /// For a million prompt tokens that the provider puts into its cache. Default: as the input.
    pub cache_write_usd_per_mtok: Option<Usd>,
    /// For the same, where it keeps them for an hour. Default: as `cache_write_usd_per_mtok`.
    pub cache_write_1h_usd_per_mtok: Option<Usd>,
}

/// The price of one model: its own, else the default one.
pub(super) fn model_price(
    path: &str,
    raw: Option<RawPrice>,
    default: Option<&Price>,
) -> Result<(Price, PriceOrigin), ConfigError> {
    match (raw, default) {
        (Some(raw), _) => Ok((price(path, raw)?, PriceOrigin::Model)),
        (None, Some(default)) => Ok((default.clone(), PriceOrigin::Default)),
        (None, None) => {
            let problem =
                "is needed where there is no `default_price`: no model is free by accident";
            Err(ConfigError::new(path, problem))
        }
    }
}

/// Checks one price; an error starts with `path`.
pub(super) fn price(path: &str, raw: RawPrice) -> Result<Price, ConfigError> {
    let amount = |usd: Option<Usd>| usd.map(|usd| usd.0.0);
    let (input, output) = (
        amount(raw.input_usd_per_mtok),
        amount(raw.output_usd_per_mtok),
    );
    let base = match &raw.catalogue {
        Some(name) => Catalogue::built_in().find(name).ok_or_else(|| {
            let problem = format!("the price catalogue has no model `{name}`: write its rates");
            ConfigError::new(format!("{path}.catalogue"), problem)
        })?,
        None => {
            let needed = |field: &str, rate: Option<u64>| {
                let problem = "is needed, or `catalogue`";
                rate.ok_or_else(|| ConfigError::new(format!("{path}.{field}"), problem))
            };
            let input = needed("input_usd_per_mtok", input)?;
            let output = needed("output_usd_per_mtok", output)?;
            let write = amount(raw.cache_write_usd_per_mtok).unwrap_or(input);
            Price::flat(Rates {
                cache_write_1h_nanousd_per_mtok: write,
                ..Rates::plain(input, output)
            })
        }
    };
    let cache = [
        amount(raw.cache_read_usd_per_mtok),
        amount(raw.cache_write_usd_per_mtok),
        amount(raw.cache_write_1h_usd_per_mtok),
    ];
    Ok(base.with(|rates| {
        let replaced = [
            (&mut rates.input_nanousd_per_mtok, input),
            (&mut rates.output_nanousd_per_mtok, output),
            (&mut rates.cache_read_nanousd_per_mtok, cache[0]),
            (&mut rates.cache_write_nanousd_per_mtok, cache[1]),
            (&mut rates.cache_write_1h_nanousd_per_mtok, cache[2]),
        ];
        for (rate, written) in replaced {
            *rate = written.unwrap_or(*rate);
        }
    }))
}
