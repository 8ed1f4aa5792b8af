//! Certificates of one test run: an authority, and what it vouches for.

use farthing_host_tests::process::run_folder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};

/// An authority that clients of the test believe, and nobody else.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate for names, with its key.
pub struct Certificate {
    pub der: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    pem: String,
    key_pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Not the name that its certificates have by default: they would count as self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Authority { issuer }
    }

    pub fn certify(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate {
            der: signed.der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into()),
            pem: signed.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// What a client believes.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a certificate");
        roots
    }

    /// Writes the authority's own certificate for Envoy to believe.
    pub fn write(&self) -> PathBuf {
        let file = folder("authority").join("ca.crt");
        fs::write(&file, self.issuer.pem()).expect("a file");
        file
    }
}

impl Certificate {
    /// Puts `tls.crt` and `tls.key` into the folder `mount/..data`, as Kubernetes does it: both are
    /// links through a link, and moving that one changes both at once.
    pub fn mount(&self, mount: &Path) {
        let data = folder("certificate");
        fs::write(data.join("tls.crt"), &self.pem).expect("a file");
        fs::write(data.join("tls.key"), &self.key_pem).expect("a file");
        let next = mount.join("..data_tmp");
        std::os::unix::fs::symlink(&data, &next).expect("a link");
        fs::rename(&next, mount.join("..data")).expect("a moved link");
        for name in ["tls.crt", "tls.key"] {
            let link = mount.join(name);
            if fs::symlink_metadata(&link).is_err() {
                std::os::unix::fs::symlink(Path::new("..data").join(name), &link).expect("a link");
            }
        }
    }
}

/// A new folder of this run. Envoy's files are never relative, as its working folder is ours.
pub fn folder(label: &str) -> PathBuf {
    let folder = run_folder(label).expect("a folder");
    fs::canonicalize(folder).expect("a folder")
}
