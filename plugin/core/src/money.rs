//! Money in integer nano-dollars (10^-9 USD): sums are exact, and the cheapest real price (a few
//! cents per million tokens) is still tens of nano-dollars a token.

use crate::digits::Digits;
use std::fmt;
use std::ops::AddAssign;

/// Nano-dollars in one dollar, and the decimals of a dollar amount.
pub const NANOUSD_PER_USD: u64 = 1_000_000_000;
const USD_DECIMALS: usize = 9;
/// Characters of an amount below ten dollars, sign included.
const USD_CHARS: usize = 12;

/// An amount of money. Arithmetic saturates: an absurd amount stays absurd instead of wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanousd(pub u64);

impl Nanousd {
    pub const ZERO: Nanousd = Nanousd(0);
    /// The most that a request can cost, nine billion dollars: the difference of two costs always
    /// fits [`NanousdDelta`].
    pub const MAX: Nanousd = Nanousd(i64::MAX as u64);

    #[must_use]
    pub fn saturating_add(self, other: Nanousd) -> Nanousd {
        Nanousd(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn saturating_sub(self, other: Nanousd) -> Nanousd {
        Nanousd(self.0.saturating_sub(other.0))
    }

    /// Dollars with all nine decimals: `0.000012345`.
    pub fn to_usd(self) -> String {
        let mut usd = String::with_capacity(USD_CHARS);
        self.push_usd(&mut usd);
        usd
    }

    fn push_usd(self, out: &mut String) {
        let fraction = Digits::padded(self.0 % NANOUSD_PER_USD, USD_DECIMALS);
        out.push_str(Digits::of(self.0 / NANOUSD_PER_USD).as_str());
        out.push('.');
        out.push_str(fraction.as_str());
    }

    /// Parses dollars from decimal digits such as `12`, `0.02` or `.5`: no sign, at most nine
    /// decimals, because anything finer would be rounded in silence. A negative exponent (`3e-6`)
    /// is read too: YAML writers spell small numbers so, and YAML 1.1 readers take that for text.
    pub fn parse_usd(text: &str) -> Result<Nanousd, MoneyError> {
        match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => Nanousd::parse_decimal(&shift(digits, exponent)?),
            None => Nanousd::parse_decimal(text),
        }
    }

    fn parse_decimal(text: &str) -> Result<Nanousd, MoneyError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
            return Err(MoneyError::NotDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > USD_DECIMALS {
            return Err(MoneyError::TooFine);
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            parse_digits(whole)?
        };
        let padded = format!("{fraction:0<width$}", width = USD_DECIMALS);
        let nanos = parse_digits(&padded)?;
        whole
            .checked_mul(NANOUSD_PER_USD)
            .and_then(|amount| amount.checked_add(nanos))
            .map(Nanousd)
            .ok_or(MoneyError::TooLarge)
    }
}

/// Moves the point of `digits` to the left by the negative `exponent`: `1.5`, `-3` is `0.0015`.
fn shift(digits: &str, exponent: &str) -> Result<String, MoneyError> {
    let places = exponent
        .strip_prefix('-')
        .and_then(|places| places.parse::<u8>().ok())
        .ok_or(MoneyError::NotDecimal)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let width = usize::from(places).saturating_add(1);
    let padded = format!("{whole:0>width$}");
    let (whole, moved) = padded
        .split_at_checked(padded.len().saturating_sub(usize::from(places)))
        .ok_or(MoneyError::NotDecimal)?;
    Ok(format!("{whole}.{moved}{fraction}"))
}

fn parse_digits(digits: &str) -> Result<u64, MoneyError> {
    digits.parse().map_err(|_| MoneyError::TooLarge)
}

/// A difference of two costs: what was saved, or below zero what was spent more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanousdDelta(pub i64);

impl NanousdDelta {
    /// `before - after`; exact for amounts up to [`Nanousd::MAX`].
    pub fn between(before: Nanousd, after: Nanousd) -> NanousdDelta {
        let signed = |amount: Nanousd| i64::try_from(amount.0).unwrap_or(i64::MAX);
        NanousdDelta(signed(before).saturating_sub(signed(after)))
    }

    /// Dollars with all nine decimals: `-0.000012345`.
    pub fn to_usd(self) -> String {
        let mut usd = String::with_capacity(USD_CHARS);
        self.push_usd(&mut usd);
        usd
    }

    pub(crate) fn push_usd(self, out: &mut String) {
        if self.0 < 0 {
            out.push('-');
        }
        Nanousd(self.0.unsigned_abs()).push_usd(out);
    }

    /// What was saved, if anything was.
    pub fn gain(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    /// What was spent more, if anything was.
    pub fn loss(self) -> u64 {
        if self.0 < 0 { self.0.unsigned_abs() } else { 0 }
    }
}

/// Dollars with all nine decimals: `-0.000012345`.
impl fmt::Display for NanousdDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_usd())
    }
}

impl AddAssign for Nanousd {
    fn add_assign(&mut self, other: Nanousd) {
        *self = self.saturating_add(other);
    }
}

/// Dollars with all nine decimals: `0.000012345`.
impl fmt::Display for Nanousd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_usd())
    }
}

/// Why a text is not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("must be dollars in decimal digits, such as 0.15")]
    NotDecimal,
    #[error("must not be finer than a nano-dollar (nine decimals)")]
    TooFine,
    #[error("is too large")]
    TooLarge,
}
