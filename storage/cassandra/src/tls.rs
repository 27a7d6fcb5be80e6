//! Whom we trust to be Cassandra.

use std::path::Path;
use std::sync::Arc;

use chat4all_storage::status::Error;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::options::Tls;

pub(crate) fn client(tls: &Tls) -> Result<ClientConfig, Error> {
    let refused = |error: rustls::Error| Error::Refused(format!("TLS to Cassandra cannot be set up: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = match &tls.ca_file {
        Some(file) => builder.with_root_certificates(authorities(file)?),
        None => builder.with_platform_verifier().map_err(refused)?,
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(file: &Path) -> Result<RootCertStore, Error> {
    let refuse = |problem: String| Error::Refused(format!("`ca_file` `{}`: {problem}", file.display()));
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| refuse(error.to_string()))? {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        authorities.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if authorities.is_empty() {
        return Err(refuse("holds no certificate".into()));
    }
    Ok(authorities)
}
