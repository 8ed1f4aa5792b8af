//! The catalogue of list prices: a text with one line for all models of the same price, made by
//! `cargo xtask prices` and compiled into the filter. It is only read while a configuration is, and
//! never for a request.
//!
//! ```text
//! # farthing price catalogue 1
//! # … where it comes from
//! 0.15/0.6/0.075 b:0.075/0.3/0.0375 = gpt-4o-mini gpt-4o-mini-2024-07-18
//! 1.25/10/0.125 >200000:2.5/15/0.25 p>200000:4.5/27/0.45 = gemini-2.5-pro
//! ```
//!
//! Left of ` = ` are the tariffs, the first being the standard one of short prompts. A tariff is
//! `input/output/cache read/cache write/cache write for an hour`, in dollars per million tokens.
//! What is left out at the end is as the input, and the last as the last but one. Before its colon
//! stands what it is for: `b`, `f` or `p` for the service tiers batch, flex and priority, and
//! `>TOKENS` for prompts longer than that.

use super::{Price, Rates, ServiceTier, Tariff};
use crate::money::Nanousd;

/// The first line of a catalogue that we can read.
const HEADING: &str = "# farthing price catalogue 1";

/// A catalogue in its text form.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue<'a> {
    text: &'a str,
}

/// A line of a catalogue that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the price catalogue is not a price")]
pub struct CatalogueError {
    pub line: usize,
}

impl Catalogue<'static> {
    /// The one that is compiled in.
    pub fn built_in() -> Catalogue<'static> {
        Catalogue {
            text: include_str!("catalogue.txt"),
        }
    }
}

impl<'a> Catalogue<'a> {
    pub fn new(text: &'a str) -> Catalogue<'a> {
        Catalogue { text }
    }

    /// The price of a model; `None` for a name that it does not have.
    pub fn find(&self, name: &str) -> Option<Price> {
        self.lines().find_map(|(_, tariffs, names)| {
            let listed = names.split(' ').any(|listed| listed == name);
            listed.then(|| price(tariffs)).flatten()
        })
    }

    /// Every model with its price, in the order of the text.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn entries(&self) -> Result<Vec<(&'a str, Price)>, CatalogueError> {
        if self.text.lines().next() != Some(HEADING) {
            return Err(CatalogueError { line: 1 });
        }
        let mut entries = Vec::new();
        for (line, tariffs, names) in self.lines() {
            let price = price(tariffs).ok_or(CatalogueError { line })?;
            entries.extend(names.split(' ').map(|name| (name, price.clone())));
        }
        Ok(entries)
    }

    /// Number, tariffs and names of each line. A line without a ` = ` has no names.
    fn lines(&self) -> impl Iterator<Item = (usize, &'a str, &'a str)> {
        (1..)
            .zip(self.text.lines())
            .filter(|(_, line)| !line.starts_with('#'))
            .map(|(number, line)| {
                let (tariffs, names) = line.split_once(" = ").unwrap_or((line, ""));
                (number, tariffs, names)
            })
    }
}

fn price(text: &str) -> Option<Price> {
    let mut tariffs = text.split(' ');
    let base = rates(tariffs.next()?)?;
    let tariffs = tariffs.map(tariff).collect::<Option<Vec<Tariff>>>()?;
    Some(Price::new(base, tariffs))
}

fn tariff(text: &str) -> Option<Tariff> {
    let (condition, text) = text.split_once(':')?;
    let (service, above) = condition.split_once('>').unwrap_or((condition, "0"));
    let service = match service {
        "" => ServiceTier::Standard,
        "b" => ServiceTier::Batch,
        "f" => ServiceTier::Flex,
        "p" => ServiceTier::Priority,
        _ => return None,
    };
    Some(Tariff {
        service,
        above_prompt_tokens: above.parse().ok()?,
        rates: rates(text)?,
    })
}

fn rates(text: &str) -> Option<Rates> {
    let mut amounts = text
        .split('/')
        .map(|usd| Nanousd::parse_usd(usd).ok().map(|amount| amount.0));
    let input = amounts.next()??;
    let output = amounts.next()??;
    let mut or = |default: u64| amounts.next().unwrap_or(Some(default));
    let cache_read = or(input)?;
    let cache_write = or(input)?;
    let cache_write_1h = or(cache_write)?;
    Some(Rates {
        input_nanousd_per_mtok: input,
        output_nanousd_per_mtok: output,
        cache_read_nanousd_per_mtok: cache_read,
        cache_write_nanousd_per_mtok: cache_write,
        cache_write_1h_nanousd_per_mtok: cache_write_1h,
    })
}
