//! TLS in front of a server on loopback that speaks none.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Each of its connections has one of its own to the server behind it. Dropping it closes all of them.
pub(crate) struct TlsFront {
    address: SocketAddr,
    /// Its certificate, which nobody has signed but itself.
    certificate: NamedTempFile,
    relay: JoinHandle<()>,
}

impl TlsFront {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let (certificate, acceptor) = certified();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let relay = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(relay(stream, acceptor.clone(), server));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            certificate,
            relay,
        }
    }

    /// `https://127.0.0.1:PORT`, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The file for `PIXEL_CA_FILE`.
    pub(crate) fn certificate(&self) -> &Path {
        self.certificate.path()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

/// A certificate of 127.0.0.1 (ECDSA, P-256) as a file, and who proves to have it.
fn certified() -> (NamedTempFile, TlsAcceptor) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate can be made");
    let file = NamedTempFile::new().expect("a file can be made");
    let text = STANDARD.encode(cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    std::fs::write(file.path(), pem).expect("the file can be written");
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
        });
    (
        file,
        TlsAcceptor::from(Arc::new(config.expect("the server can be set up"))),
    )
}

/// An error here is the end of either side.
async fn relay(client: TcpStream, acceptor: TlsAcceptor, server: SocketAddr) {
    let connected = async {
        client.set_nodelay(true)?;
        let server = TcpStream::connect(server).await?;
        server.set_nodelay(true)?;
        Ok::<_, std::io::Error>((acceptor.accept(client).await?, server))
    };
    if let Ok((mut client, mut server)) = connected.await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
