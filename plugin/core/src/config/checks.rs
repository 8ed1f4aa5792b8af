//! Checks of single values.

use super::ConfigError;
use super::raw::WholeNumber;
use crate::limits::{CONFIG_NAME_BYTES_MAX, MODEL_NAME_BYTES_MAX};

pub(super) fn within(
    path: impl Into<String>,
    raw: WholeNumber,
    min: u32,
    max: u32,
) -> Result<u32, ConfigError> {
    match u32::try_from(raw.0) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(ConfigError::new(
            path,
            format!("must be from {min} to {max}, not {}", raw.0),
        )),
    }
}

pub(super) fn count(path: &str, len: usize, max: usize) -> Result<(), ConfigError> {
    if len > max {
        return Err(ConfigError::new(
            path,
            format!("must have at most {max} entries, not {len}"),
        ));
    }
    Ok(())
}

/// A name that will be the value of a header: visible ASCII, so that it can neither break the
/// header nor be trimmed on its way.
pub(super) fn header_value(path: impl Into<String>, text: String) -> Result<String, ConfigError> {
    named(path, text, CONFIG_NAME_BYTES_MAX)
}

pub(super) fn model_name(path: impl Into<String>, text: String) -> Result<String, ConfigError> {
    named(path, text, MODEL_NAME_BYTES_MAX)
}

fn named(path: impl Into<String>, text: String, bytes_max: usize) -> Result<String, ConfigError> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > bytes_max || !visible {
        let problem = format!("must be 1 to {bytes_max} visible ASCII characters without spaces");
        return Err(ConfigError::new(path, problem));
    }
    Ok(text)
}

pub(super) fn header_name(name: String) -> Result<String, ConfigError> {
    let name = name.to_ascii_lowercase();
    let refuse = |problem: &str| Err(ConfigError::new("tenant.header", problem));
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.is_empty() || name.len() > CONFIG_NAME_BYTES_MAX || !name.bytes().all(token) {
        return refuse("must be a header name: letters, digits, `-` and `_`");
    }
    if name.starts_with("x-farthing-") {
        return refuse("must not start with `x-farthing-`: such headers are removed on arrival");
    }
    Ok(name)
}
