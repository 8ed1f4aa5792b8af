//! Checks a raw configuration and resolves its names. Each error names the field.

mod models;

use super::budget::budget;
use super::checks::{count, header_name, header_value, within};
use models::{models, virtual_models};

use super::cache::cache;
use super::compaction::compaction;
use super::passthrough::passthrough;
use super::prices::price;
use super::raw::{RawConfig, RawMaxTokens, RawTenant, RawTenantSource};
use super::routes::routes;
use super::routing::{calibration, set_targets, sticky};
use super::vocabularies::vocabularies;
use super::{Config, ConfigError, MaxTokens, NamedCredential, Secret, TenantConfig, TenantSource};
use crate::limits::{MAX_TOKENS_MAX, NAMED_TENANTS_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use crate::tenant::CredentialDigest;

type Checked<T> = Result<T, ConfigError>;

pub(super) fn validate(mut raw: RawConfig) -> Checked<Config> {
    let cache = cache(&raw.cache)?;
    let routes = routes(&mut raw, cache.as_ref())?;
    let default_price = raw
        .default_price
        .map(|raw| price("default_price", raw))
        .transpose()?;
    let models = models(raw.models, default_price.as_ref())?;
    let mut virtual_models = virtual_models(&models, raw.virtual_models)?;
    set_targets(&mut virtual_models, raw.routing.targets)?;
    let tenant = tenant(raw.tenant)?;
    let budget = raw.budget.map(|raw| budget(raw, &tenant)).transpose()?;
    let passthrough_cluster = match raw.passthrough_cluster {
        Some(cluster) => header_value("passthrough_cluster", cluster)?,
        None => models
            .first()
            .map(|model| model.cluster.clone())
            .unwrap_or_default(),
    };
    Ok(Config {
        secret: secret(&raw.secret)?,
        cache,
        max_tokens: max_tokens(raw.max_tokens)?,
        models,
        virtual_models,
        calibration: calibration(raw.routing.calibration.as_deref())?,
        sticky: sticky(&raw.routing.sticky)?,
        tenant,
        budget,
        ledger: raw.ledger,
        routes,
        compaction: compaction(raw.compaction),
        vocabularies: vocabularies(raw.vocabularies)?,
        passthrough: passthrough(raw.passthrough)?,
        passthrough_cluster,
    })
}

fn secret(raw: &str) -> Checked<Secret> {
    let bytes = raw.as_bytes();
    if !bytes.is_empty() && !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
        let problem = format!("must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes");
        return Err(ConfigError::new("secret", problem));
    }
    Ok(Secret::new(bytes))
}

fn tenant(raw: RawTenant) -> Checked<TenantConfig> {
    count("tenant.names", raw.names.len(), NAMED_TENANTS_MAX)?;
    let source = match (raw.source, raw.header) {
        (RawTenantSource::Credential, None) => TenantSource::Credential,
        (RawTenantSource::Credential, Some(_)) => {
            return Err(ConfigError::new(
                "tenant.header",
                "is only for `source: header`",
            ));
        }
        (RawTenantSource::Header, None) => {
            return Err(ConfigError::new(
                "tenant.header",
                "is needed for `source: header`",
            ));
        }
        (RawTenantSource::Header, Some(_)) if !raw.names.is_empty() => {
            return Err(ConfigError::new(
                "tenant.names",
                "is only for `source: credential`",
            ));
        }
        (RawTenantSource::Header, Some(header)) => TenantSource::Header(header_name(header)?),
    };
    let mut names: Vec<NamedCredential> = Vec::with_capacity(raw.names.len());
    for (position, raw) in raw.names.into_iter().enumerate() {
        let path = |field: &str| format!("tenant.names[{position}].{field}");
        let name = header_value(path("name"), raw.name)?;
        let Some(digest) = CredentialDigest::from_hex(&raw.credential_sha256) else {
            let problem = "must be 64 hexadecimal digits";
            return Err(ConfigError::new(path("credential_sha256"), problem));
        };
        if names.iter().any(|named| named.digest == digest) {
            let problem = "names a credential that already has a name";
            return Err(ConfigError::new(path("credential_sha256"), problem));
        }
        names.push(NamedCredential { name, digest });
    }
    Ok(TenantConfig { source, names })
}

fn max_tokens(raw: RawMaxTokens) -> Checked<MaxTokens> {
    let cap = within("max_tokens.cap", raw.cap, 1, MAX_TOKENS_MAX)?;
    let default = within("max_tokens.default", raw.default, 1, MAX_TOKENS_MAX)?;
    if default > cap {
        let problem = format!("must not be above `max_tokens.cap` ({default} > {cap})");
        return Err(ConfigError::new("max_tokens.default", problem));
    }
    Ok(MaxTokens { default, cap })
}
