//! `envoy/production.yaml` as it is shipped, but for addresses and the files of certificates: with
//! real Envoy, two replicas behind it, and TLS in front.

use super::certificates::{Authority, Certificate, folder};
use super::tls::{self, Answered};
use farthing_host_tests::client;
use farthing_host_tests::envoy::{Envoy, EnvoyConfig, EnvoyOptions};
use farthing_host_tests::paths;
use farthing_host_tests::ports::free_port;
use farthing_host_tests::stub::{Answer, Recorded, StubUpstream};
use serde_json::Value;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The name on the certificate that clients see.
const NAME: &str = "llm.example.com";

/// Where the filter asks for vocabularies; these replicas have none.
pub const VOCABULARIES: &str = "/farthing/v1/vocabularies/";

pub struct ProductionEdge {
    pub envoy: Envoy,
    pub replicas: [StubUpstream; 2],
    pub authority: Authority,
    /// Where the certificate is mounted.
    pub mount: PathBuf,
}

impl ProductionEdge {
    /// Starts it with replicas that answer by `script`, which is told which of them is asked.
    pub fn start(
        script: impl Fn(usize, &Recorded) -> Answer + Send + Sync + 'static,
    ) -> ProductionEdge {
        let script = Arc::new(script);
        let replicas = [0, 1].map(|replica| {
            let script = Arc::clone(&script);
            let answer = move |request: &Recorded| match request.path.as_str() {
                "/readyz" => Answer::json(200, "{}"),
                path if path.starts_with(VOCABULARIES) => Answer::json(404, "{}"),
                _ => script(replica, request),
            };
            StubUpstream::start(answer).expect("a free port")
        });
        let authority = Authority::new();
        let mount = folder("tls");
        authority.certify(&[NAME]).mount(&mount);
        let config = configuration(&replicas, &mount);
        let envoy = Envoy::start(&config, &EnvoyOptions::new(1));
        ProductionEdge {
            envoy: envoy.unwrap_or_else(|error| panic!("{error}")),
            replicas,
            authority,
            mount,
        }
    }

    /// A chat request of a client that checks whom it talks to.
    pub fn ask(&self, body: &Value) -> Answered {
        self.try_ask(body).expect("Envoy answers")
    }

    /// The same, where there may be no whole answer.
    pub fn try_ask(&self, body: &Value) -> io::Result<Answered> {
        let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n\
                    authorization: Bearer production";
        self.try_send(head, body.to_string().as_bytes())
    }

    pub fn send(&self, head: &str, body: &[u8]) -> Answered {
        self.try_send(head, body).expect("Envoy answers")
    }

    fn try_send(&self, head: &str, body: &[u8]) -> io::Result<Answered> {
        tls::request(&self.authority, self.envoy.address(), NAME, head, body)
    }

    /// Another certificate of the same name takes the place of the present one.
    pub fn renew_certificate(&self) -> Certificate {
        let renewed = self.authority.certify(&[NAME]);
        renewed.mount(&self.mount);
        renewed
    }

    /// How often each replica was asked for a completion.
    pub fn asked(&self) -> [usize; 2] {
        [0, 1].map(|replica: usize| {
            let requests = self.replicas[replica].requests();
            requests
                .iter()
                .filter(|request| request.method == "POST")
                .count()
        })
    }

    pub fn stat(&self, name: &str) -> u64 {
        stat(&self.envoy, name)
    }

    /// Where a listener of that name listens.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let admin = self.envoy.admin_address();
        let listeners = client::get(admin, "/listeners?format=json")
            .expect("an answer")
            .json();
        let statuses = listeners["listener_statuses"]
            .as_array()
            .expect("listeners");
        let found = statuses.iter().find(|listener| listener["name"] == name);
        let port = found.and_then(|listener| {
            listener
                .pointer("/local_address/socket_address/port_value")?
                .as_u64()
        });
        (Ipv4Addr::LOCALHOST, port.expect("a port") as u16).into()
    }
}

/// The value of one of Envoy's own counters or gauges; 0 while there is none.
pub fn stat(envoy: &Envoy, name: &str) -> u64 {
    let path = format!("/stats?filter=^{name}$");
    let text = client::get(envoy.admin_address(), &path)
        .expect("an answer")
        .text();
    text.trim()
        .rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

/// The shipped file with this machine's addresses.
pub fn configuration(replicas: &[StubUpstream; 2], mount: &std::path::Path) -> EnvoyConfig {
    let mut config = EnvoyConfig::shipped("production.yaml").unwrap_or_else(|e| panic!("{e}"));
    for listener in ["0", "1"] {
        let path = format!("/static_resources/listeners/{listener}/address/socket_address");
        let address = config.at(&path).expect("an address");
        address["address"] = "127.0.0.1".into();
        address["port_value"] = 0.into();
    }
    let admin = (Ipv4Addr::LOCALHOST, free_port().expect("a free port"));
    config.set_admin_port(admin.1).expect("an admin interface");
    config
        .set_upstream("admin", admin.into())
        .expect("cluster admin");
    config
        .set_upstream("backend", replicas[0].address())
        .expect("cluster backend");
    let endpoints = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
    let endpoints = config.at(endpoints).expect("endpoints").as_sequence_mut();
    let endpoints = endpoints.expect("a list");
    let mut second = endpoints[0].clone();
    second["endpoint"]["address"]["socket_address"]["port_value"] =
        replicas[1].address().port().into();
    endpoints.push(second);
    let secret = "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config\
                  /common_tls_context/tls_certificate_sds_secret_configs/0/sds_config\
                  /path_config_source";
    let secret = config.at(secret).expect("a secret");
    secret["path"] = shipped_secret(mount).display().to_string().into();
    config
}

/// The shipped description of the certificate, with `mount` as its folder.
fn shipped_secret(mount: &std::path::Path) -> PathBuf {
    let shipped = paths::envoy_config("secrets/server_certificate.yaml");
    let text = fs::read_to_string(shipped).expect("the description");
    let text = text.replace("/etc/farthing/tls", &mount.display().to_string());
    let file = folder("secret").join("server_certificate.yaml");
    fs::write(&file, text).expect("a file");
    file
}
