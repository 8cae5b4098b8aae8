//! The same over https, with a bridge whose certificate only `ca_file` knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton::broker::{Broker, NotSentCause, OpenAlgo, Settings, Submission};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::double::answer;
use crate::support::{assert_acknowledged, entry, order, settings, warmed};

/// Serves as acknowledgement and as funds.
const BODY: &str = r#"{"status":"success","orderid":"42","data":{"availablecash":"7"}}"#;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/certs").join(name)
}

/// A TLS server that gives the same answer to every request; returns its settings.
async fn bridge() -> Settings {
    let certificate = CertificateDer::from_pem_file(file("localhost.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("localhost.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|length| length > 0) {
                    // Every body here is one flat JSON object.
                    if request.ends_with(b"}") {
                        request.clear();
                        let bytes = answer(200, "application/json", BODY);
                        if stream.write_all(bytes.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    settings(format!("https://localhost:{port}"))
}

#[tokio::test]
async fn orders_and_reads_go_over_https() {
    let mut settings = bridge().await;
    settings.ca_file = Some(file("localhost.crt"));
    let broker = OpenAlgo::new(settings).unwrap();
    warmed(&broker, 1).await;
    for _ in 0..3 {
        assert_acknowledged(&broker.place(&order(), entry()).await, "42");
    }
    assert_eq!(broker.funds().await.unwrap().available_cash.to_string(), "7");
}

#[tokio::test]
async fn a_bridge_that_nobody_vouches_for_gets_no_order() {
    let settings = bridge().await;
    match OpenAlgo::new(settings) {
        Ok(broker) => {
            let submission = broker.place(&order(), entry()).await;
            assert!(
                matches!(submission, Submission::NotSent { cause: NotSentCause::Connect, .. }),
                "{submission:?}"
            );
            broker.funds().await.unwrap_err();
        }
        Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
}

#[tokio::test]
async fn a_missing_ca_file_is_named() {
    let mut settings = settings("https://localhost:1");
    settings.ca_file = Some(file("nowhere.crt"));
    let error = OpenAlgo::new(settings).err().unwrap().to_string();
    assert!(error.contains("nowhere.crt") && error.contains("broker.ca_file"), "{error}");
}
