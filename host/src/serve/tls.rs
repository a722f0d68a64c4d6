//! TLS by rustls. The certificate is read again when its files change, so that renewing it needs no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the certificate and its key are, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds nothing of the kind.
    #[error("http.tls: cannot use {path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The two files do not belong together, or say what rustls does not support.
    #[error("http.tls: {certificate} and {key} cannot be used together: {reason}", certificate = files.certificate.display(), key = files.key.display())]
    Pair {
        /// The two.
        files: TlsFiles,
        /// Why not.
        reason: String,
    },
}

/// Accepts connections with the certificate that is in force.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    config: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Reads the certificate and its key.
    pub fn open(files: TlsFiles) -> Result<Tls, TlsError> {
        let config = load(&files)?;
        Ok(Tls { files, config: Arc::new(ArcSwap::from_pointee(config)) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Takes the files into force whenever they change. While they cannot be used, as between the writing of one and the other, what was in
    /// force stays.
    pub(super) async fn follow(self) {
        let mut known = self.stamp().await;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stamp = self.stamp().await;
            if stamp == known {
                continue;
            }
            known = stamp;
            let files = self.files.clone();
            match tokio::task::spawn_blocking(move || load(&files)).await {
                Ok(Ok(config)) => {
                    self.config.store(Arc::new(config));
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
                }
                Ok(Err(error)) => tracing::warn!("the certificate in force stays: {error}"),
                Err(error) => tracing::warn!("the certificate in force stays: {error}"),
            }
        }
    }

    async fn stamp(&self) -> [Option<(u64, SystemTime)>; 2] {
        let of = async |path: &Path| {
            let about = tokio::fs::metadata(path).await.ok()?;
            Some((about.len(), about.modified().ok()?))
        };
        [of(&self.files.certificate).await, of(&self.files.key).await]
    }
}

fn load(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let unusable = |path: &PathBuf, reason: String| TlsError::File { path: path.clone(), reason };
    let bytes = |path: &PathBuf| std::fs::read(path).map_err(|error| unusable(path, error.to_string()));
    let certificates = CertificateDer::pem_slice_iter(&bytes(&files.certificate)?).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| unusable(&files.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(&files.certificate, "it holds no certificate in PEM".into()));
    }
    // The reason never repeats what stands in the file.
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?);
    let key = key.map_err(|_| unusable(&files.key, "it holds no private key in PEM".into()))?;
    let pair = |error: tokio_rustls::rustls::Error| TlsError::Pair { files: files.clone(), reason: error.to_string() };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(pair)?.with_no_client_auth();
    let mut config = config.with_single_cert(certificates, key).map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
