//! How a worker comes by its vocabularies.

use super::file;
use farthing_core::config::{Config, ModelIndex};
use farthing_core::vocabulary::loading::{Embedded, Fetch, Progress, Vocabularies};

const NS_PER_MS: u64 = 1_000_000;

fn config(vocabularies: [Option<&str>; 3], source: &str) -> Result<Config, String> {
    let models = (0..).zip(vocabularies).map(|(index, vocabulary)| {
        let named = vocabulary.map(|name| format!(r#", "vocabulary": "{name}""#));
        let price = r#"{"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}"#;
        format!(
            r#"{{"id": "m{index}", "tier": "t", "cluster": "c", "context_tokens": 100,
                "price": {price}{}}}"#,
            named.unwrap_or_default()
        )
    });
    let models = models.collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"models": [{models}]{source}}}"#);
    Config::parse(text.as_bytes()).map_err(|error| error.to_string())
}

const SOURCE: &str =
    r#", "vocabularies": {"cluster": "backend", "timeout_ms": 50, "retry_ms": 10}"#;

fn fetch(entry: usize, name: &str) -> Progress {
    Progress::Fetch(Fetch {
        entry,
        cluster: "backend".to_owned(),
        path: format!("/farthing/v1/vocabularies/{name}"),
        timeout_ms: 50,
    })
}

fn loaded(name: &str, loaded: usize) -> Progress {
    let name = name.to_owned();
    Progress::Loaded { name, loaded }
}

#[test]
fn each_name_is_fetched_once_and_again_after_failures() {
    let config = config(
        [Some("o200k_base"), Some("absent"), Some("o200k_base")],
        SOURCE,
    )
    .unwrap();
    let mut vocabularies = Vocabularies::new(&config, &[]);
    assert_eq!(vocabularies.read_embedded(0), Progress::Nothing);
    let at = |ms: u64| ms * NS_PER_MS;
    assert_eq!(vocabularies.step(at(0)), fetch(0, "o200k_base"));
    assert_eq!(vocabularies.step(at(0)), fetch(1, "absent"));
    assert_eq!(vocabularies.step(at(0)), Progress::Nothing);
    vocabularies.arrived(0, file("o200k_base"));
    assert_eq!(vocabularies.of_model(ModelIndex(0)), None, "not read yet");
    assert_eq!(vocabularies.step(at(1)), loaded("o200k_base", 1));
    assert_eq!(vocabularies.of_model(ModelIndex(0)), Some(0));
    assert_eq!(vocabularies.of_model(ModelIndex(2)), Some(0));
    assert_eq!(vocabularies.of_model(ModelIndex(1)), None);
    // Each failure doubles the wait.
    let mut now_ms = 1;
    for wait_ms in [10, 20, 40, 80] {
        vocabularies.failed(1, at(now_ms));
        assert_eq!(
            vocabularies.step(at(now_ms + wait_ms - 1)),
            Progress::Nothing
        );
        now_ms += wait_ms;
        assert_eq!(vocabularies.step(at(now_ms)), fetch(1, "absent"));
    }
    for _ in 0..100 {
        vocabularies.failed(1, at(now_ms));
        now_ms += 60_000;
        assert_eq!(
            vocabularies.step(at(now_ms)),
            fetch(1, "absent"),
            "once a minute at least"
        );
    }
    // An answer that never comes is a failure too, after twice its deadline.
    assert_eq!(vocabularies.step(at(now_ms + 99)), Progress::Nothing);
    vocabularies.step(at(now_ms + 100));
    assert_eq!(
        vocabularies.step(at(now_ms + 100 + 60_000)),
        fetch(1, "absent")
    );
    assert!(vocabularies.are_pending());
    vocabularies.arrived(1, b"no such file".to_vec());
    let refused = vocabularies.step(at(now_ms + 100 + 60_000));
    assert!(matches!(refused, Progress::Refused { name, .. } if name == "absent"));
    vocabularies.arrived(1, file("cl100k_base"));
    assert_eq!(
        vocabularies.step(at(now_ms + 100 + 60_000)),
        loaded("absent", 2)
    );
    assert!(!vocabularies.are_pending());
    // What comes late changes nothing.
    vocabularies.failed(1, 0);
    vocabularies.arrived(0, Vec::new());
    assert_eq!(vocabularies.step(u64::MAX), Progress::Nothing);
}

#[test]
fn embedded_vocabularies_need_nobody() {
    let config = config([Some("own"), None, None], "").unwrap();
    let own: &'static [u8] = file("o200k_base").leak();
    let embedded: [Embedded; 1] = [("own", own)];
    assert!(config.check_vocabularies(&["own"]).is_ok());
    let refused = config
        .check_vocabularies(&["other"])
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("models[0].vocabulary: is not part of this build"),
        "{refused}"
    );
    let mut vocabularies = Vocabularies::new(&config, &embedded);
    assert_eq!(vocabularies.read_embedded(0), loaded("own", 1));
    assert_eq!(vocabularies.read_embedded(0), Progress::Nothing);
    assert_eq!(vocabularies.step(0), Progress::Nothing);
    assert_eq!(vocabularies.of_model(ModelIndex(0)), Some(0));
    assert_eq!(vocabularies.of_model(ModelIndex(1)), None);
    assert_eq!(vocabularies.of_model(ModelIndex(9)), None);
}

#[test]
fn wrong_sections_are_refused_by_their_path() {
    let check = |vocabulary: &str, source: &str, expected: &str| {
        let error = config([Some(vocabulary), None, None], source).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    check(
        "a b",
        SOURCE,
        "models[0].vocabulary: must be 1 to 128 letters",
    );
    check("", SOURCE, "models[0].vocabulary: must be 1 to 128 letters");
    check(
        "a",
        r#", "vocabularies": {}"#,
        "vocabularies: missing field `cluster`",
    );
    check(
        "a",
        r#", "vocabularies": {"cluster": ""}"#,
        "vocabularies.cluster: must be",
    );
    let timeout = r#", "vocabularies": {"cluster": "c", "timeout_ms": 0}"#;
    check(
        "a",
        timeout,
        "vocabularies.timeout_ms: must be from 1 to 60000",
    );
    let retry = r#", "vocabularies": {"cluster": "c", "retry_ms": 60001}"#;
    check("a", retry, "vocabularies.retry_ms: must be from 1 to 60000");
    check(
        "a",
        r#", "vocabularies": {"host": "c"}"#,
        "vocabularies.host: unknown field",
    );
}

#[test]
fn only_whole_answers_are_read() {
    assert!(Vocabularies::is_welcome(b"200", 1 << 20));
    for (status, bytes) in [
        (&b"404"[..], 100),
        (b"", 100),
        (b"200", 0),
        (b"200", 9 << 20),
    ] {
        assert!(
            !Vocabularies::is_welcome(status, bytes),
            "{status:?} {bytes}"
        );
    }
}
