//! Whose request it is: one credential, several, none.

use crate::edge::pairs;
use farthing_core::config::Config;
use farthing_core::exchange::Headers;
use farthing_core::tenant::{Tenant, identify};

/// Names the holder of the credential `key-acme`.
const CONFIG: &str = r#"{
    "models": [{"id": "small", "tier": "small", "cluster": "c", "context_tokens": 64,
                "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}],
    "secret": "a secret of the tests",
    "tenant": {"source": "credential", "names": [{"name": "acme", "credential_sha256":
        "6371cb7a907cc8f10740229732c4b6164b285169494b85304468313513427878"}]}
}"#;

fn tenant(headers: &[(&str, &str)]) -> Tenant {
    let config = Config::parse(CONFIG.as_bytes()).unwrap();
    identify(&config, &Headers::new(&pairs(headers)))
}

#[test]
fn one_credential_is_a_tenant_however_it_is_sent() {
    let acme = tenant(&[("authorization", "Bearer key-acme")]);
    assert_eq!(acme.name(), Some("acme"));
    for same in [
        &[("x-api-key", " key-acme ")][..],
        &[
            ("authorization", "bearer key-acme"),
            ("x-api-key", "key-acme"),
        ],
        &[("authorization", "Bearer "), ("x-api-key", "key-acme")],
    ] {
        assert_eq!(tenant(same), acme, "{same:?}");
    }
    assert_eq!(tenant(&[]), Tenant::Anonymous);
}

#[test]
fn several_credentials_are_a_tenant_of_their_own() {
    let both = tenant(&[("authorization", "Bearer key-acme"), ("x-api-key", "other")]);
    assert_eq!(both.name(), None);
    for same in [
        [("authorization", "Bearer other"), ("x-api-key", "key-acme")],
        [
            ("authorization", "Bearer other"),
            ("authorization", "Bearer key-acme"),
        ],
    ] {
        assert_eq!(tenant(&same), both, "{same:?}");
    }
    for different in [
        &[("authorization", "Bearer key-acme")][..],
        &[("x-api-key", "other")],
        &[("x-api-key", "key-acmeother")],
        &[("x-api-key", "key-acm"), ("authorization", "eother")],
    ] {
        assert_ne!(tenant(different).id(), both.id(), "{different:?}");
    }
    let long = "k".repeat(10_000);
    let with_long = [
        ("authorization", "Bearer key-acme"),
        ("x-api-key", long.as_str()),
    ];
    assert_eq!(tenant(&with_long), Tenant::Anonymous);
}
