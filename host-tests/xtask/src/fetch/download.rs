//! Downloads that resume. What has arrived lies in a `.part` file; a later attempt, in this run or
//! the next, asks for the rest. Only a whole file that has been checked gets its final name.

use super::pins::{Artifact, Kind};
use super::progress::Progress;
use super::stamp;
use crate::error::XtaskError;
use crate::signals::Interrupt;
use farthing_host_tests::paths;
use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, http};

/// A source that cannot be reached must fail soon: the next one may be.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The time to the response's headers.
const RESPONSE_WITHIN: Duration = Duration::from_secs(30);
/// The time without a byte after which a connection counts as broken; the next one resumes.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// No single file we fetch is larger; a server that sends more is not the one we want.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Attempts at one file, each from where the last one broke off.
const ATTEMPTS_MAX: u32 = 5;
const CHUNK_BYTES: usize = 256 * 1024;
/// Where systems keep the certificates that they trust, unless a variable says otherwise.
const CA_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// The variables that pip, requests, curl and OpenSSL obey.
const CA_VARIABLES: [&str; 4] = [
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// Fetches files over HTTPS.
pub struct Downloader<'a> {
    agent: Agent,
    /// Hosts that did not answer; asking them again would only take time.
    unreachable: HashSet<String>,
    pub interrupt: &'a Interrupt,
}

/// The folder of unfinished downloads.
pub fn folder() -> PathBuf {
    paths::farthing_dir().join("downloads")
}

impl<'a> Downloader<'a> {
    /// A downloader that trusts what this system trusts, and uses its proxy.
    pub fn new(interrupt: &'a Interrupt) -> Downloader<'a> {
        let tls = TlsConfig::builder().root_certs(system_roots()).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_recv_response(Some(RESPONSE_WITHIN))
            .timeout_per_read(Some(READ_WITHIN))
            .http_status_as_error(false)
            .build();
        Downloader {
            agent: config.into(),
            unreachable: HashSet::new(),
            interrupt,
        }
    }

    /// Fetches an artifact from the address of its publisher.
    pub fn file(&mut self, artifact: &Artifact, url: &str) -> Result<(), XtaskError> {
        let host = host_of(url);
        if self.unreachable.contains(&host) {
            return Err(XtaskError::Unexpected(format!("{host} is not reachable")));
        }
        let name = artifact.path.replace('/', "-");
        let whole = match self.download(url, &name, artifact.name) {
            Ok(whole) => whole,
            Err(interrupted @ XtaskError::Interrupted { .. }) => return Err(interrupted),
            Err(error) => {
                eprintln!("fetch: {host} is of no use here, taking the next source ({error})");
                self.unreachable.insert(host);
                return Err(error);
            }
        };
        install(artifact, &whole)
    }

    /// Downloads `url` to a file called `name`, resuming what an earlier attempt has left.
    pub fn download(&self, url: &str, name: &str, label: &str) -> Result<PathBuf, XtaskError> {
        let folder = folder();
        fs::create_dir_all(&folder).map_err(XtaskError::file("make", &folder))?;
        let (whole, part) = (folder.join(name), folder.join(format!("{name}.part")));
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let before = length(&part);
            match self.attempt(url, &part, label) {
                Ok(()) => {
                    fs::rename(&part, &whole).map_err(XtaskError::file("rename", &part))?;
                    return Ok(whole);
                }
                Err(interrupted @ XtaskError::Interrupted { .. }) => return Err(interrupted),
                Err(error) => {
                    // An attempt that brought nothing is not worth another.
                    let stuck = length(&part) <= before;
                    last = Some(error);
                    if stuck {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| XtaskError::Unexpected(format!("{name}: no attempt was made"))))
    }

    fn attempt(&self, url: &str, part: &Path, label: &str) -> Result<(), XtaskError> {
        let had_bytes = length(part);
        let host = host_of(url);
        let failed = |error: ureq::Error| XtaskError::Unexpected(format!("{host}: {error}"));
        // Compressed ranges are ranges of other bytes.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if had_bytes > 0 {
            request = request.header("range", format!("bytes={had_bytes}-"));
        }
        let response = request.call().map_err(failed)?;
        let resumed_bytes = match response.status().as_u16() {
            200 => 0,
            206 if resumes_at(&response, had_bytes) => had_bytes,
            status => {
                // What lies there does not fit what the server has: start anew next time.
                let _ = fs::remove_file(part);
                return Err(XtaskError::Unexpected(format!(
                    "{host}: HTTP status {status}"
                )));
            }
        };
        let rest = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
        let total_bytes = rest.map(|rest| rest.saturating_add(resumed_bytes));
        let mut file = open_part(part, resumed_bytes)?;
        let mut progress = Progress::new(label, total_bytes, resumed_bytes);
        let body = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        let copied = self.copy(body, &mut file, part, resumed_bytes, &mut progress);
        progress.finish();
        let done_bytes = copied?;
        match total_bytes {
            Some(total) if total != done_bytes => Err(XtaskError::Unexpected(format!(
                "{host}: the connection ended after {done_bytes} of {total} bytes"
            ))),
            _ => Ok(()),
        }
    }

    /// Appends `body` to `file`; the answer is the length that the file then has.
    fn copy(
        &self,
        mut body: impl Read,
        file: &mut File,
        part: &Path,
        resumed_bytes: u64,
        progress: &mut Progress,
    ) -> Result<u64, XtaskError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done_bytes = resumed_bytes;
        loop {
            self.interrupt.check()?;
            let read = match body.read(&mut chunk) {
                Ok(0) => return Ok(done_bytes),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(XtaskError::io("the download broke off")(error)),
            };
            done_bytes += read as u64;
            if done_bytes > FILE_BYTES_MAX {
                return Err(XtaskError::Unexpected(format!(
                    "more than {FILE_BYTES_MAX} bytes"
                )));
            }
            file.write_all(&chunk[..read])
                .map_err(XtaskError::file("write", part))?;
            progress.add(read as u64);
        }
    }
}

/// Checks a whole file against its pin and moves it to its place.
pub fn install(artifact: &Artifact, whole: &Path) -> Result<(), XtaskError> {
    let found = stamp::sha256_of(whole)?;
    if found != artifact.sha256 {
        let _ = fs::remove_file(whole);
        return Err(XtaskError::Unexpected(format!(
            "{}: SHA-256 is {found}, pinned is {}",
            artifact.name, artifact.sha256
        )));
    }
    let place = stamp::path(artifact);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(XtaskError::file("make", folder))?;
    }
    if matches!(artifact.kind, Kind::Program | Kind::TestProgram) {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(whole, mode).map_err(XtaskError::file("mark", whole))?;
    }
    fs::rename(whole, &place).map_err(XtaskError::file("move", whole))?;
    stamp::record(artifact)
}

fn open_part(part: &Path, resumed_bytes: u64) -> Result<File, XtaskError> {
    let mut options = OpenOptions::new();
    options.create(true).write(true);
    if resumed_bytes > 0 {
        options.append(true)
    } else {
        options.truncate(true)
    };
    options.open(part).map_err(XtaskError::file("write", part))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn header<'r>(response: &'r http::Response<ureq::Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether a 206 continues exactly where our file ends (RFC 9110, section 14.4).
fn resumes_at(response: &http::Response<ureq::Body>, offset: u64) -> bool {
    header(response, "content-range")
        .is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_string()
}

fn system_roots() -> RootCerts {
    let named = CA_VARIABLES
        .iter()
        .filter_map(env::var_os)
        .filter(|value| !value.is_empty());
    let candidates = named.chain(CA_BUNDLES.iter().map(OsString::from));
    for bundle in candidates {
        let Ok(text) = fs::read(&bundle) else {
            continue;
        };
        let certificates: Vec<_> = parse_pem(&text)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if !certificates.is_empty() {
            return RootCerts::from(certificates);
        }
    }
    RootCerts::WebPki
}
