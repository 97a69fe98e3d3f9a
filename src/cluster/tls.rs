//! Encryption between nodes: TLS on which both sides show a certificate of the cluster's own authority.
//!
//! A node takes any peer whose certificate that authority has signed, so it must sign for this cluster alone. The node
//! that dials also wants the certificate to be for the host that it dialled, or for [`CLUSTER_NAME`]: nodes are dialled
//! by addresses that may change, so one certificate for all of them will do. The cookie is asked for all the same.
//!
//! Which side is wrong is seldom plain from an error of TLS alone, so [`explain`] turns the usual ones into sentences
//! that say how to mend it. Files are read when the node starts; a new certificate is taken with the next start.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ClusterError;
use super::network::Connection;
use super::preamble;
use crate::config::ClusterConfig;

/// A name that a certificate may bear in place of the node's host.
pub const CLUSTER_NAME: &str = "rookery-cluster";

/// Most payload bytes of a record. A record is read as a whole, and on a slow link its bytes are no sign of life before
/// that; so it is kept small.
const RECORD_BYTES: usize = 4096;

/// Makes encrypted connections of plain ones.
pub struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// What `cluster.tls_*` configures. None: nothing.
    pub fn load(config: &ClusterConfig) -> Result<Option<Self>, ClusterError> {
        let paths = [
            ("cluster.tls_ca", &config.tls_ca),
            ("cluster.tls_certificate", &config.tls_certificate),
            ("cluster.tls_key", &config.tls_key),
        ];
        if paths.iter().all(|(_, path)| path.is_empty()) {
            return Ok(None);
        }
        if let Some((key, _)) = paths.iter().find(|(_, path)| path.is_empty()) {
            return Err(ClusterError(format!(
                "{key} is empty; set cluster.tls_ca, cluster.tls_certificate and cluster.tls_key, or none of them"
            )));
        }
        let [ca, certificate, key] = paths;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| unusable(ca, &error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let secret =
            PrivateKeyDer::from_pem_file(key.1).map_err(|error| unusable(key, &error.to_string()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let fits = |error: rustls::Error| {
            let what = format!("{error}; it must be the key of cluster.tls_certificate '{}'", certificate.1);
            unusable(key, &what)
        };
        let connector = client(&provider, &roots, chain.clone(), secret.clone_key()).map_err(fits)?;
        let acceptor = server(&provider, &roots, chain, secret).map_err(fits)?;
        Ok(Some(Self {
            connector: TlsConnector::from(Arc::new(connector)),
            acceptor: TlsAcceptor::from(Arc::new(acceptor)),
        }))
    }

    /// Encrypts a connection that this node has dialled at `address`, host:port. Has no deadline of its own.
    pub async fn dial(&self, connection: Connection, address: &str) -> io::Result<Connection> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("'{address}' names no host: {error}"))
        })?;
        let end = connection.end();
        let stream = self.connector.connect(name, connection).await?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(Connection::new(Box::new(reader), Box::new(writer), end))
    }

    /// Encrypts a connection that this node has accepted. Has no deadline of its own.
    pub async fn accept(&self, connection: Connection) -> io::Result<Connection> {
        let end = connection.end();
        match self.acceptor.accept(connection).into_fallible().await {
            Ok(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                Ok(Connection::new(Box::new(reader), Box::new(writer), end))
            }
            Err((error, mut connection)) => {
                preamble::part(&mut connection).await;
                Err(error)
            }
        }
    }
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    secret: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let webpki = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HostOrCluster(webpki)))
        .with_client_auth_cert(chain, secret)?;
    config.max_fragment_size = Some(RECORD_BYTES);
    Ok(config)
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    secret: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let webpki = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(webpki)
        .with_single_cert(chain, secret)?;
    config.max_fragment_size = Some(RECORD_BYTES);
    // Links are long, and made seldom.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(file: (&str, &String)) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let read = |path: &Path| CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read(Path::new(file.1)) {
        Err(error) => Err(unusable(file, &error.to_string())),
        Ok(found) if found.is_empty() => Err(unusable(file, "there is no certificate in it")),
        Ok(found) => Ok(found),
    }
}

fn unusable((key, path): (&str, &String), what: &str) -> ClusterError {
    ClusterError(format!("{key} '{path}' can't be used: {what}; name a PEM file that this process may read"))
}

/// Checks the certificate of the node dialled: of the authority, in its time, and for the host or for the cluster.
#[derive(Debug)]
struct HostOrCluster(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for HostOrCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name: &ServerName<'_>| {
            self.0.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        match verify(server_name) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => verify(&ServerName::try_from(CLUSTER_NAME).expect("it is a DNS name")),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What an error of an encrypted connection means and how to mend it. None: it is no error of TLS.
pub fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let what = match error {
        rustls::Error::InvalidMessage(_) => {
            "the other node does not speak TLS, but this one does; set cluster.tls_ca, cluster.tls_certificate and \
             cluster.tls_key on all nodes, or on none"
        }
        rustls::Error::NoCertificatesPresented => {
            "the other side shows no certificate; set cluster.tls_certificate and cluster.tls_key there"
        }
        rustls::Error::InvalidCertificate(why) => certificate(why),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "the other node does not take this node's certificate: its cluster.tls_ca has not signed it; use one \
                 authority for all nodes"
            }
            AlertDescription::CertificateExpired => {
                "the other node does not take this node's certificate: it has expired, or a clock is wrong; renew \
                 cluster.tls_certificate here"
            }
            AlertDescription::CertificateRequired => {
                "the other node wants a certificate; set cluster.tls_certificate and cluster.tls_key here"
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => {
                "the other node does not take this node's certificate: it must be signed by the authority in \
                 cluster.tls_ca, allow server and client authentication, and bear the host dialled or \
                 'rookery-cluster' as a name"
            }
            _ => return Some(format!("the other node ends the TLS handshake: {error}")),
        },
        _ => return Some(format!("TLS fails: {error}")),
    };
    Some(format!("{what} ({error})"))
}

fn certificate(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the other node's certificate has expired, or a clock is wrong; renew cluster.tls_certificate there"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the other node's certificate is not valid yet; check the clocks of both"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the other node's certificate is not signed by this node's cluster.tls_ca; use one authority for all nodes"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the other node's certificate bears neither the host dialled nor 'rookery-cluster' as a name; sign one \
             that does"
        }
        _ => {
            "the other node's certificate can't be taken; it must be signed by the authority in cluster.tls_ca and \
             allow server and client authentication"
        }
    }
}
