//! Many clients that stream without an end, and think a little between two calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::model_api::Call;
use crate::proxy::eventually;
use crate::upstream::RawClient;

#[derive(Default)]
struct Sums {
    calls: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    over: AtomicBool,
}

pub(crate) struct Load {
    sums: Arc<Sums>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) async fn start(address: SocketAddr, clients: usize) -> Self {
        let sums = Arc::new(Sums::default());
        let clients: Vec<_> = (0..clients).map(|client| tokio::spawn(run(address, client, Arc::clone(&sums)))).collect();
        eventually("most of the load runs", || sums.now.load(Ordering::SeqCst) > clients.len() * 3 / 4).await;
        Self { sums, clients }
    }

    /// How many calls there were, and how many at the same time.
    pub(crate) async fn end(self) -> (usize, usize) {
        self.sums.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        (self.sums.calls.load(Ordering::SeqCst), self.sums.most.load(Ordering::SeqCst))
    }
}

async fn run(address: SocketAddr, client: usize, sums: Arc<Sums>) {
    let mut connection = RawClient::connect(address).await;
    let call = Call::of(&format!("load-{}", client % 40)).session(&format!("load-session-{client}")).stream(8, 200).output(64).bytes();
    while !sums.over.load(Ordering::SeqCst) {
        let now = sums.now.fetch_add(1, Ordering::SeqCst) + 1;
        sums.most.fetch_max(now, Ordering::SeqCst);
        let got = connection.ask(&call).await.expect("an answer");
        assert!(got.status() == 200 && got.body.ends_with(b"\"message_stop\"}\n\n"), "the load was disturbed: {}", got.head);
        assert_eq!(got.header("x-paramedic"), None, "the load was acted upon");
        sums.now.fetch_sub(1, Ordering::SeqCst);
        sums.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20 + (client % 7) as u64 * 10)).await;
    }
}
