//! Where events leave the way of a call: handed over without waiting, or lost and counted.

use paramedic_model::Event;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// The calls' end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outlet {
    sender: mpsc::Sender<Event>,
    lost: Counter,
}

/// An outlet for so many events, and where they come out.
#[must_use]
pub fn outlet(len_max: usize) -> (Outlet, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(len_max.max(1));
    (Outlet { sender, lost: Counter::default() }, receiver)
}

impl Outlet {
    /// Hands events over. A call never waits for those who count it: what they are too slow for is lost, and counted.
    pub fn hand_over(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            if self.sender.try_send(event).is_err() {
                self.lost.inc();
            }
        }
    }

    /// Events that were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Makes the count known as `paramedic_gateway_events_lost_total`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Events of calls that nobody took in time; the calls themselves were served";
        registry.register("paramedic_gateway_events_lost", help, self.lost.clone());
    }
}
