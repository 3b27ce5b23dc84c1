use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use crate::stage::{Certificate, Manner, Stage, assert_never_shown, free_port, misbehaving};

/// A server that answers every request by what its path asks for.
async fn server(certificate: Option<&Certificate>) -> u16 {
    let acceptor = certificate.map(|certificate| {
        let chain = CertificateDer::pem_file_iter(certificate.path("server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(certificate.path("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => answer(stream).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream).await;
                        }
                    }
                }
            });
        }
    });
    port
}

async fn answer(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (status, extra, body) = match path.as_str() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            ("200 OK", String::new(), "late".to_owned())
        }
        "/never" => return tokio::time::sleep(Duration::from_secs(600)).await,
        "/redirect" => ("302 Found", "location: /ok\r\n".to_owned(), String::new()),
        "/loop" => ("302 Found", "location: /loop\r\n".to_owned(), String::new()),
        "/big" => ("200 OK", String::new(), "x".repeat(8 * 1024 * 1024)),
        "/headers" => ("200 OK", String::new(), head.clone()),
        "/v1/models" if head.contains("x-api-key: sk-real") => ("200 OK", String::new(), "{}".to_owned()),
        "/v1/models" if head.contains("anthropic-version") => ("401 Unauthorized", String::new(), "{}".to_owned()),
        "/degraded/v1/models" => ("529 Overloaded", String::new(), "{}".to_owned()),
        "/missing" => ("404 Not Found", String::new(), String::new()),
        _ => ("200 OK", String::new(), "all is well".to_owned()),
    };
    let text = format!("HTTP/1.1 {status}\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn answers_are_measured_and_judged() {
    let port = server(None).await;
    let check = async |path: &str, further: &str, error: &str| {
        let stage =
            Stage::new(&format!("timeout_s = 2\nhttp = [{{ url = \"http://127.0.0.1:{port}{path}\", job = \"agent-api\"{further} }}]"));
        let target = stage.target().await;
        let is_right = if error.is_empty() { target.last_error.is_empty() } else { target.last_error.contains(error) };
        assert!(is_right, "{path} {further}: {:?}", target.last_error);
        assert_eq!(stage.value("probe_success"), f64::from(u8::from(error.is_empty())));
        assert_eq!(stage.value("up{job=\"agent-api\"}"), stage.value("probe_success"));
        stage
    };
    let good = check("/ok", "", "").await;
    for (expression, expected) in [
        ("probe_http_status_code", 200.0),
        ("probe_http_content_length", 11.0),
        ("probe_http_uncompressed_body_length", 11.0),
        ("probe_http_version", 1.1),
        ("probe_http_ssl", 0.0),
        ("probe_http_redirects", 0.0),
        ("count(probe_http_duration_seconds)", 5.0),
    ] {
        assert_eq!(good.value(expression), expected, "{expression}");
    }
    check("/missing", "", "status 404 is not expected").await;
    check("/missing", ", expect_status = [200, \"4xx\"]", "").await;
    check("/ok", ", expect_body = \"is w.ll\"", "").await;
    check("/ok", ", expect_body = \"is bad\"", "does not match").await;
    check("/ok", ", refuse_body = \"well\"", "matches `refuse_body`").await;
    assert_eq!(check("/redirect", "", "").await.value("probe_http_redirects"), 1.0);
    check("/redirect", ", redirects_max = 0", "status 302").await;
    check("/loop", "", "status 302").await;
    let slow = check("/slow", "", "").await;
    let (processing, transfer) =
        (slow.value("probe_http_duration_seconds{phase=\"processing\"}"), slow.value("probe_http_duration_seconds{phase=\"transfer\"}"));
    assert!((0.3..1.0).contains(&processing) && transfer < 0.2, "{processing} {transfer}");
    let big = check("/big", ", body_bytes_max = 1000", "").await;
    assert_eq!((big.value("probe_http_uncompressed_body_length"), big.value("probe_http_content_length")), (1_000.0, 8_388_608.0));
    check("/headers", ", method = \"POST\", headers = { X-Probe = \"yes-it-is\" }, expect_body = \"x-probe: yes-it-is\"", "").await;
    let never = check("/never", "", "still in phase processing").await;
    assert!(never.value("probe_http_duration_seconds{phase=\"processing\"}") > 1.9, "where the time went is told");
}

#[tokio::test]
async fn certificates_are_measured_even_when_they_are_refused() {
    let Some(good) = Certificate::make("200101000000Z", "400102030405Z") else { return };
    let port = server(Some(&good)).await;
    let with = |further: &str| Stage::new(&format!("http = [{{ url = \"https://localhost:{port}/ok\"{further} }}]"));
    let trusted = with(&format!(", ca_file = {:?}", good.path("ca.pem")));
    assert_eq!(trusted.target().await.last_error, "");
    assert_eq!(trusted.value("probe_ssl_earliest_cert_expiry"), 2_209_086_245.0);
    assert_eq!(trusted.value("probe_http_ssl"), 1.0);
    assert!(trusted.value("probe_http_duration_seconds{phase=\"tls\"}") > 0.0);
    let stranger = with("");
    let refused = stranger.target().await.last_error;
    assert!(refused.contains("ertificate"), "{refused}");
    assert_eq!(stranger.value("probe_ssl_earliest_cert_expiry"), 2_209_086_245.0);
    assert_eq!(with(", insecure = true").target().await.last_error, "");
    let tcp = Stage::new(&format!("tcp = [{{ address = \"localhost:{port}\", tls = true, ca_file = {:?} }}]", good.path("ca.pem")));
    assert_eq!(tcp.target().await.last_error, "");
    assert_eq!(tcp.value("probe_ssl_earliest_cert_expiry{job=\"tcp\"}"), 2_209_086_245.0);

    let expired = Certificate::make("200101000000Z", "210102030405Z").unwrap();
    let port = server(Some(&expired)).await;
    let stage = Stage::new(&format!("http = [{{ url = \"https://localhost:{port}/\", ca_file = {:?} }}]", expired.path("ca.pem")));
    let refused = stage.target().await.last_error;
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
    assert_eq!(stage.values("probe_ssl_earliest_cert_expiry - time() < 0").len(), 1, "the usual rule fires");
}

#[tokio::test]
async fn a_model_api_is_reached_without_a_key() {
    let port = server(None).await;
    let at = |path: &str, further: &str| {
        Stage::new(&format!("model_api = [{{ url = \"http://127.0.0.1:{port}{path}\", timeout_s = 1{further} }}]"))
    };
    let reached = at("", "");
    assert_eq!(reached.target().await.last_error, "");
    assert_eq!(reached.value("probe_http_status_code{job=\"model-api\"}"), 401.0);
    assert_eq!(reached.value("agent_anthropic_api_reachable"), 1.0);
    assert_eq!(reached.value("agent_anthropic_api_state{state=\"ok\"}"), 1.0);
    let degraded = at("/degraded", "");
    assert!(degraded.target().await.last_error.contains("degraded: status 529"));
    assert_eq!((degraded.value("agent_anthropic_api_reachable"), degraded.value("agent_anthropic_api_degraded")), (1.0, 1.0));
    assert_eq!(degraded.value("probe_success"), 0.0);
    for port in [misbehaving(Manner::Silent).await, misbehaving(Manner::Garbage).await, free_port()] {
        let stage = Stage::new(&format!("model_api = [{{ url = \"http://127.0.0.1:{port}\", timeout_s = 1 }}]"));
        assert_ne!(stage.target().await.last_error, "");
        assert_eq!(stage.value("agent_anthropic_api_reachable"), 0.0);
        assert_eq!(stage.value("agent_anthropic_api_state{state=\"unreachable\"}"), 1.0);
    }
}

#[tokio::test]
async fn endpoints_that_misbehave_are_cut_and_named() {
    for manner in [Manner::Silent, Manner::Garbage, Manner::Flood, Manner::HangUp] {
        let port = misbehaving(manner).await;
        for scheme in ["http", "https"] {
            let stage = Stage::new(&format!(
                "timeout_s = 1\nhttp = [{{ url = \"{scheme}://127.0.0.1:{port}/?token=secret-xyz\", headers = {{ authorization = \"Bearer secret-xyz\" }} }}]"
            ));
            let begun = Instant::now();
            let look = stage.look().await;
            assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
            assert!(!look.target.last_error.is_empty());
            assert_never_shown(&stage, &look, "secret-xyz");
            assert_eq!(stage.value("probe_success"), 0.0);
        }
    }
    let unresolved = Stage::new("http = [{ url = \"http://no-such-host.invalid/\" }]");
    let target = unresolved.target().await;
    assert!(target.last_error.contains("no-such-host.invalid"), "{}", target.last_error);
}
