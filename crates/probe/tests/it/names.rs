//! TCP and DNS.

use tokio::net::UdpSocket;

use crate::stage::{Manner, Stage, free_port, misbehaving};

#[tokio::test]
async fn addresses_that_accept_are_up() {
    let port = misbehaving(Manner::Silent).await;
    let stage = Stage::new(&format!("tcp = [{{ address = \"127.0.0.1:{port}\" }}]"));
    assert_eq!(stage.target().await.last_error, "");
    assert!(stage.value("probe_tcp_connect_duration_seconds") < 1.0);
    assert_eq!(stage.value("probe_ip_protocol"), 4.0);
    let refused = Stage::new(&format!("tcp = [{{ address = \"127.0.0.1:{}\" }}]", free_port()));
    assert!(refused.target().await.last_error.contains("refused"));
    assert_eq!(refused.value("up{job=\"tcp\"}"), 0.0);
    let silent = Stage::new(&format!("timeout_s = 1\ntcp = [{{ address = \"127.0.0.1:{port}\", tls = true }}]"));
    assert_eq!(silent.target().await.last_error, "no answer within 1 s");
}

/// A name server: says who is there by the first letter of the name.
async fn name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            match answer[13] {
                b'g' => {
                    answer[7] = 2;
                    // Somebody else's answer comes first, and is not believed.
                    let mut stranger = answer.clone();
                    stranger[0] ^= 0xff;
                    stranger[3] = 3;
                    socket.send_to(&stranger, asker).await.unwrap();
                }
                b'n' => answer[3] = 3,
                b'e' => {}
                b'x' => answer.truncate(5),
                _ => continue,
            }
            socket.send_to(&answer, asker).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn a_given_name_server_is_asked() {
    let port = name_server().await;
    let ask = |name: &str| {
        Stage::new(&format!("timeout_s = 1\ndns = [{{ name = \"{name}.example\", server = \"127.0.0.1:{port}\", record = \"AAAA\" }}]"))
    };
    let good = ask("good");
    assert_eq!(good.target().await.last_error, "");
    assert_eq!(good.value("probe_dns_answer_rrs"), 2.0);
    assert!(good.value("probe_dns_lookup_time_seconds") < 1.0);
    for (name, error) in
        [("none", "NXDOMAIN"), ("empty", "0 answers"), ("silent", "no answer within 1 s"), ("xcut", "no answer within 1 s")]
    {
        let target = ask(name).target().await;
        assert!(target.last_error.contains(error), "{name}: {}", target.last_error);
    }
}

#[tokio::test]
async fn the_system_resolver_is_asked() {
    let good = Stage::new("dns = [{ name = \"localhost\" }]");
    assert_eq!(good.target().await.last_error, "");
    assert!(good.value("probe_dns_answer_rrs") >= 1.0);
    let bad = Stage::new("dns = [{ name = \"no-such-host.invalid\" }]");
    assert!(bad.target().await.last_error.contains("resolve no-such-host.invalid"));
    assert_eq!(bad.value("up{job=\"dns\"}"), 0.0);
}
