//! The live stream: every client gets what changed, a slow client is told how much it missed, and all are told before
//! the server goes away.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Duration, MissedTickBehavior, interval, timeout};

use crate::context::Context;
use crate::live::Live;

/// How long one message may take to leave before the client counts as gone.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How often an idle client is pinged, so that dead connections are noticed.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Clients say nothing that matters; anything larger is not one of ours.
const CLIENT_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Close code "going away" (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;

pub(crate) async fn serve(State(context): State<Arc<Context>>, upgrade: WebSocketUpgrade) -> Response {
    let receiver = context.live.subscribe();
    upgrade.max_message_size(CLIENT_MESSAGE_BYTES_MAX).on_upgrade(move |socket| async move {
        context.metrics.live_clients.inc();
        run(socket, receiver, &context).await;
        context.metrics.live_clients.dec();
    })
}

async fn run(mut socket: WebSocket, mut receiver: broadcast::Receiver<Live>, context: &Context) {
    let mut seq = 0u64;
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let hello = json!({ "type": "hello", "seq": seq, "version": context.about.version, "timestamp": context.now() });
    if !send(&mut socket, Message::text(hello.to_string())).await {
        return;
    }
    loop {
        let next = tokio::select! {
            message = receiver.recv() => message,
            from_client = socket.recv() => match from_client {
                // Text is ignored, pings are answered by the library; only the end matters.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = ping.tick() => {
                if !send(&mut socket, Message::Ping(Vec::new().into())).await {
                    return;
                }
                continue;
            }
        };
        let (body, last) = match next {
            Ok(live) => {
                seq += 1;
                (numbered(&live, seq), matches!(live, Live::Shutdown { .. }))
            }
            Err(RecvError::Lagged(missed)) => {
                seq += missed;
                context.metrics.live_missed.inc_by(missed);
                (json!({ "type": "lagged", "seq": seq, "missed": missed }), false)
            }
            Err(RecvError::Closed) => return,
        };
        if !send(&mut socket, Message::text(body.to_string())).await {
            return;
        }
        if last {
            let frame = CloseFrame { code: GOING_AWAY, reason: "server shutdown".into() };
            send(&mut socket, Message::Close(Some(frame))).await;
            return;
        }
    }
}

fn numbered(live: &Live, seq: u64) -> Value {
    let mut body = serde_json::to_value(live).unwrap_or_else(|_| json!({}));
    body["seq"] = seq.into();
    body
}

async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SEND_WITHIN, socket.send(message)).await, Ok(Ok(())))
}
