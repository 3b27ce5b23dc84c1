use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use paramedic_action::kubernetes::Settings;
use paramedic_action::kubernetes::fake::Fake;
use paramedic_action::{ActionError, Call};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};
use tokio_util::sync::CancellationToken;

use super::{actions, settings};

fn look() -> Call {
    Call::new("kubernetes.pods").with("namespace", "shop")
}

async fn outcome(settings: Settings) -> Result<(), ActionError> {
    actions(settings).execute(&look(), &CancellationToken::new()).await.map(|_| ())
}

fn written(folder: &Path, cluster: Value, user: Value) -> Settings {
    let path = folder.join("kubeconfig");
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    settings(&path)
}

#[tokio::test]
async fn a_token_is_told_and_never_shown() {
    let fake = Fake::start_for(Some("let-me-in-please")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "let-me-in-please\n").unwrap();
    let server = json!({"server": fake.url()});
    outcome(written(folder.path(), server.clone(), json!({"token": "let-me-in-please"}))).await.unwrap();
    outcome(written(folder.path(), server.clone(), json!({"tokenFile": "token"}))).await.unwrap();
    outcome(Settings { server: fake.url(), token_file: Some(folder.path().join("token")), ..Settings::default() }).await.unwrap();
    let wrong = outcome(written(folder.path(), server, json!({"token": "some-other-token"}))).await.unwrap_err().to_string();
    assert!(wrong.contains("401") && !wrong.contains("some-other-token"), "{wrong}");
}

#[tokio::test]
async fn what_is_not_set_up_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = json!({"server": "https://127.0.0.1:1"});
    let data = json!({"server": "https://127.0.0.1:1", "certificate-authority-data": "%%%"});
    let skipping = json!({"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": true});
    let cases = [
        (written_as(&folder, "exec", server.clone(), json!({"exec": {"command": "aws"}})), "never run here"),
        (written_as(&folder, "provider", server.clone(), json!({"auth-provider": {"name": "gcp"}})), "never run here"),
        (written_as(&folder, "name", server.clone(), json!({"username": "a", "password": "b"})), "give a token"),
        (written_as(&folder, "half", server.clone(), json!({"client-certificate-data": "YQ=="})), "without its key"),
        (written_as(&folder, "data", data, json!({})), "not base64"),
        (written_as(&folder, "skip", skipping, json!({})), "insecure-skip-tls-verify"),
        (written_as(&folder, "open", json!({"server": "http://203.0.113.9"}), json!({})), "use https"),
        (Settings { context: "other".to_owned(), ..written_as(&folder, "context", server, json!({})) }, "no context \"other\""),
        (settings(&folder.path().join("nothing")), "nothing cannot be read"),
        (Settings { server: "https://a:secret@127.0.0.1".to_owned(), ..Settings::default() }, "a name or password"),
    ];
    for (settings, expect) in cases {
        let error = outcome(settings).await.unwrap_err();
        assert!(matches!(&error, ActionError::NotSetUp { why, .. } if why.contains(expect)), "{error} does not say {expect}");
    }
}

fn written_as(folder: &tempfile::TempDir, name: &str, cluster: Value, user: Value) -> Settings {
    let own = folder.path().join(name);
    std::fs::create_dir(&own).unwrap();
    written(&own, cluster, user)
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = outcome(Settings { server: format!("http://127.0.0.1:{port}"), ..Settings::default() }).await.unwrap_err().to_string();
    assert!(error.contains("no answer") && error.contains("refused"), "{error}");
}

/// Answers every request with this, or with nothing at all.
async fn raw(said: Option<&'static str>) -> Settings {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                let _ = stream.read(&mut read).await;
                match said {
                    Some(said) => stream.write_all(said.as_bytes()).await.unwrap_or_default(),
                    None => tokio::time::sleep(Duration::from_secs(60)).await,
                }
            });
        }
    });
    Settings { server, timeout_s: 1, ..Settings::default() }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_or_not_at_all_is_survived() {
    let cases = [
        (None, "too long"),
        (Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"), "not JSON"),
        (Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]"), "not JSON"),
        (Some("HTTP/1.1 503 Busy\r\ncontent-length: 26\r\nconnection: close\r\n\r\npassword=hunter2hunter2 no"), "503"),
        (Some("HTTP/1.1 302 Go\r\nlocation: http://203.0.113.9/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), "302"),
        (Some("nonsense\r\n\r\n"), "no answer"),
    ];
    for (said, expect) in cases {
        let error = outcome(raw(said).await).await.unwrap_err().to_string();
        assert!(error.contains(expect) && !error.contains("hunter2"), "{error} does not say {expect}");
    }
    // Objects of the wrong shape.
    let odd = r#"{"items": ["text", 7, {"metadata": "text", "spec": [], "status": {"conditions": {}, "containerStatuses": [1]}}], "metadata": 3, "spec": "x"}"#;
    let said: &'static str = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{odd}", odd.len()).leak();
    let on =
        |action: &str| Call::new(&format!("kubernetes.{action}")).with("namespace", "shop").with("deployment", "web").with("name", "web");
    let calls = [
        on("pods"),
        on("events"),
        on("rollout_status"),
        on("rollout_undo"),
        on("rollout_restart"),
        on("scale").with("replicas", 2),
        on("set_image").with("container", "c").with("image", "i:1"),
        on("patch").with("kind", "deployment").with("patch", json!({"spec": {"replicas": 1}})),
        on("cordon").with("node", "n1"),
        on("drain").with("node", "n1").with("timeout", "1s"),
        on("network_policy_suspend").with("for", "1s"),
    ];
    for mut call in calls {
        let actions = actions(Settings { verify_s: 0, poll_ms: 10, ..raw(Some(said)).await });
        let known = actions.find(&call.action).unwrap().0;
        call.arguments.retain(|name, _| known.arguments.iter().any(|argument| argument.name == name));
        // Whatever comes of it: no panic.
        let _ = actions.execute(&call, &CancellationToken::new()).await;
    }
}

/// Certificates for `127.0.0.1`, by an authority of our own; false when the program that makes them is missing.
fn certificates(folder: &Path) -> bool {
    if !Path::new("/usr/bin/openssl").is_file() {
        eprintln!("skipped: openssl is not installed");
        return false;
    }
    let run = |arguments: &[&str]| {
        let output = Command::new("/usr/bin/openssl").current_dir(folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    run(&[&["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test authority"][..], &key[..]].concat());
    run(&[&["req", "-new", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"][..], &key[..]].concat());
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
    run(&[&sign[..], &["-extfile", "san", "-out", "server.pem"]].concat());
    run(&[&["req", "-new", "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=tester"][..], &key[..]].concat());
    let sign = ["x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
    std::fs::write(folder.join("client"), "basicConstraints=CA:FALSE\n").unwrap();
    run(&[&sign[..], &["-extfile", "client", "-out", "client.pem"]].concat());
    true
}

/// A door with TLS before the server; with `clients` only for who shows a certificate of the authority.
async fn door(folder: &Path, inner: SocketAddr, clients: bool) -> String {
    let authorities = || CertificateDer::pem_file_iter(folder.join("ca.pem")).unwrap().map(Result::unwrap);
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if clients {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities());
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(inner).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    server
}

#[tokio::test]
async fn a_client_certificate_opens_the_door() {
    let folder = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) {
        return;
    }
    let fake = Fake::start().await.unwrap();
    let server = door(folder.path(), fake.address(), true).await;
    let cluster = json!({"server": server, "certificate-authority": "ca.pem"});
    outcome(written(folder.path(), cluster.clone(), json!({"client-certificate": "client.pem", "client-key": "client.key"})))
        .await
        .unwrap();
    let packed = |name: &str| BASE64.encode(std::fs::read(folder.path().join(name)).unwrap());
    let user = json!({"client-certificate-data": packed("client.pem"), "client-key-data": packed("client.key")});
    let inline = json!({"server": server, "certificate-authority-data": packed("ca.pem")});
    outcome(written(folder.path(), inline, user)).await.unwrap();
    let error = outcome(written(folder.path(), cluster, json!({"token": "no-certificate"}))).await.unwrap_err().to_string();
    assert!(error.contains("no answer"), "{error}");
}

#[tokio::test]
async fn an_own_authority_is_trusted_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) {
        return;
    }
    let fake = Fake::start().await.unwrap();
    let server = door(folder.path(), fake.address(), false).await;
    let trusting = Settings { server: server.clone(), ca_file: Some(folder.path().join("ca.pem")), ..Settings::default() };
    outcome(trusting).await.unwrap();
    outcome(written(folder.path(), json!({"server": server, "certificate-authority": "ca.pem"}), json!({}))).await.unwrap();
    let error = outcome(Settings { server, ..Settings::default() }).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}
