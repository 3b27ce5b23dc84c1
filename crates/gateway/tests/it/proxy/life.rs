//! Many connections, too many, draining, handing over, TLS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paramedic_gateway::proxy::{Drained, End, Http2, Metrics, Settings, UpstreamSettings, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{Knobs, Proxy, eventually, get, held, post};
use crate::upstream::{FakeUpstream, RawClient, STREAM_HEAD, Step, chunk, json};

const EVENT: &[u8] = b"event: a\ndata: 1\n\n";

/// Streams say one event and then wait; everything else is answered at once.
async fn waiting() -> (FakeUpstream, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let upstream = FakeUpstream::start({
        let go = Arc::clone(&go);
        move |seen| {
            if seen.path() != "/stream" {
                return json("{}");
            }
            let end = [chunk(EVENT), b"0\r\n\r\n".to_vec()].concat();
            vec![Step::Send(STREAM_HEAD.into()), Step::Send(chunk(EVENT)), Step::WaitFor(Arc::clone(&go)), Step::Send(end)]
        }
    })
    .await;
    (upstream, go)
}

async fn streaming(proxy: &Proxy) -> RawClient {
    let mut client = RawClient::connect(proxy.address).await;
    client.send(&post("/stream", "{}")).await;
    client.read_until(EVENT).await.unwrap();
    client
}

#[tokio::test]
async fn a_thousand_streams_at_the_same_time_leave_nothing_behind() {
    let (upstream, go) = waiting().await;
    let settings = UpstreamSettings { idle_max: 0, ..UpstreamSettings::default() };
    let proxy = Proxy::to(&upstream.url(), &settings, Knobs::default(), &Settings::default()).await;
    drop(streaming(&proxy).await);
    eventually("idle", || upstream.open() == 0).await;
    let (memory, descriptors) = held();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(streaming(&proxy).await);
    }
    let (memory_open, descriptors_open) = held();
    // Other tests have descriptors too where they run in the same process.
    let alone = std::env::var_os("NEXTEST").is_some();
    assert!(!alone || descriptors_open == descriptors + 4000, "both ends of both connections are in this process");
    eprintln!("1000 streams: {} MB more, with both their peers", memory_open - memory);
    go.notify_waiters();
    for client in &mut clients {
        client.read_until(b"0\r\n\r\n").await.unwrap();
    }
    drop(clients);
    eventually("closed", || proxy.serving.connections() == 0 && upstream.open() == 0).await;
    eventually("no descriptor is left", || !alone || held().1 == descriptors).await;
    assert_eq!(proxy.ends().iter().filter(|end| **end == End::Complete).count(), 1000);
    assert_eq!(proxy.metrics.connections.get(), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let (upstream, _go) = waiting().await;
    let proxy = Proxy::with(&upstream, Knobs::default(), &Settings { connections_max: 2, ..Settings::default() }).await;
    let kept = [streaming(&proxy).await, streaming(&proxy).await];
    let got = RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap();
    assert_eq!((got.status(), got.header("x-should-retry"), got.header("retry-after")), (503, Some("true"), Some("1")));
    assert_eq!(got.json()["error"]["type"], "overloaded_error");
    assert_eq!(proxy.metrics.turned_away.get(), 1);
    drop(kept);
    eventually("closed", || proxy.serving.connections() == 0).await;
    assert_eq!(RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_drain_lets_calls_finish_closes_idle_ones_and_cuts_the_rest() {
    let (upstream, go) = waiting().await;
    let proxy = Proxy::before(&upstream).await;
    let mut idle = RawClient::connect(proxy.address).await;
    assert_eq!(idle.ask(&get("/")).await.unwrap().status(), 200);
    let mut running = streaming(&proxy).await;
    let address = proxy.address;
    let drain = tokio::spawn(proxy.serving.drain(Duration::from_secs(5)));
    let begun = Instant::now();
    assert!(idle.closes_within(Duration::from_millis(500)).await);
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
    go.notify_waiters();
    running.read_until(b"0\r\n\r\n").await.unwrap();
    assert_eq!(drain.await.unwrap(), Drained { finished: 2, cut: 0 });
    assert!(begun.elapsed() < Duration::from_secs(2));

    let proxy = Proxy::before(&upstream).await;
    let mut stuck = [streaming(&proxy).await, streaming(&proxy).await];
    let begun = Instant::now();
    assert_eq!(proxy.serving.drain(Duration::from_millis(400)).await, Drained { finished: 0, cut: 2 });
    assert!((Duration::from_millis(390)..Duration::from_millis(1200)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    for client in &mut stuck {
        assert!(client.closes_within(Duration::from_millis(500)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_is_handed_over_and_nobody_is_refused() {
    let (upstream, _go) = waiting().await;
    let mut proxy = Proxy::before(&upstream).await;
    let (address, over) = (proxy.address, Arc::new(AtomicBool::new(false)));
    let calls = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|index| {
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut kept = None;
                while !over.load(Ordering::SeqCst) {
                    // Half of them connect for each call, half keep their connection until it is closed in an answer.
                    let mut client = match kept.take() {
                        Some(client) => client,
                        None => RawClient::connect(address).await,
                    };
                    let got = client.ask(&get("/")).await.expect("an answer");
                    assert_eq!(got.status(), 200);
                    calls.fetch_add(1, Ordering::SeqCst);
                    if index % 2 == 0 && got.header("connection") != Some("close") {
                        tokio::task::yield_now().await;
                        kept = Some(client).filter(|_| index % 4 == 0);
                    }
                }
            })
        })
        .collect();
    let settings = Settings::default();
    let handler = proxy.handler();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let listener = proxy.serving.take_listener().await.unwrap();
        let next = serve(listener, Arc::clone(&handler), &settings, Metrics::default()).unwrap();
        let before = std::mem::replace(&mut proxy.serving, next);
        // Connections that are kept are served on by the one before; it ends when they do.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(before);
        });
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(calls.load(Ordering::SeqCst) > 100, "{calls:?}");
}

/// A certificate for localhost and 127.0.0.1, its key, and the authority to trust.
fn certificate(directory: &Path) -> bool {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .output();
    made.is_ok_and(|made| made.status.success())
}

#[tokio::test]
async fn an_upstream_behind_tls_is_spoken_to_in_either_version() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let directory = tempfile::tempdir().unwrap();
    if !certificate(directory.path()) {
        eprintln!("skipped: no openssl to make a certificate with");
        return;
    }
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_file(&cert).unwrap()], PrivateKeyDer::from_pem_file(&key).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let said = format!("{:?} {} {:?}", request.version(), request.uri(), request.headers().get("host"));
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(said))
                });
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    });
    let url = format!("https://127.0.0.1:{port}");
    for (http2, expect) in [
        (Http2::Offered, format!("HTTP/2.0 https://127.0.0.1:{port}/v1/x?y=%20 None")),
        (Http2::Never, format!("HTTP/1.1 /v1/x?y=%20 Some(\"127.0.0.1:{port}\")")),
    ] {
        let before = accepted.load(Ordering::SeqCst);
        let settings = UpstreamSettings { http2, authorities_file: Some(cert.clone()), ..UpstreamSettings::default() };
        let proxy = Proxy::to(&url, &settings, Knobs::default(), &Settings::default()).await;
        for _ in 0..3 {
            let got = RawClient::connect(proxy.address).await.ask(&post("/v1/x?y=%20", "{}")).await.unwrap();
            assert_eq!((got.status(), String::from_utf8(got.body).unwrap()), (200, expect.clone()));
        }
        assert_eq!(accepted.load(Ordering::SeqCst), before + 1, "one connection is used again");
    }
    // Somebody whom nobody vouches for is not spoken to.
    let settings = UpstreamSettings::default();
    let proxy = Proxy::to(&url, &settings, Knobs::default(), &Settings::default()).await;
    assert_eq!(RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap().status(), 502);
    assert!(proxy.errors().iter().all(|(_, sent)| !sent));
}
