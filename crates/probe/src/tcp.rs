//! Whether an address accepts connections, and optionally greets with TLS.

use std::time::Instant;

use paramedic_model::Timestamp;

use crate::config::TcpSettings;
use crate::error::ProbeError;
use crate::plan::{Identity, Looking, Opened, Probe};
use crate::reading::Reading;
use crate::tls::{self, Trust};
use crate::wire::{self, Place};

pub(crate) fn open(settings: &TcpSettings) -> Result<Opened, ProbeError> {
    let target = || format!("tcp target {}", settings.address);
    let Some(Place::Tcp { host, port }) = Place::parse(&settings.address, None) else {
        return Err(ProbeError::setting(target(), "address", "is not `host:port`"));
    };
    let trust = Trust::of(settings.ca_file.as_deref(), settings.insecure).map_err(|err| ProbeError::setting(target(), "ca_file", err))?;
    let identity = Identity { instance: settings.address.clone(), address: settings.address.clone() };
    Ok((identity, Box::new(Tcp { host, port, trust: settings.tls.then_some(trust) })))
}

struct Tcp {
    host: String,
    port: u16,
    /// Whom to believe when greeting with TLS.
    trust: Option<Trust>,
}

impl Probe for Tcp {
    fn look<'a>(&'a mut self, _now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            let (addresses, took) = wire::resolve(&self.host, self.port).await?;
            reading.gauge("probe_dns_lookup_time_seconds", took.as_secs_f64());
            let (stream, address, took) = wire::connect(&addresses).await?;
            reading.gauge("probe_tcp_connect_duration_seconds", took.as_secs_f64());
            reading.gauge("probe_ip_protocol", if address.is_ipv6() { 6.0 } else { 4.0 });
            let Some(trust) = &self.trust else { return Ok(()) };
            let begun = Instant::now();
            let (greeted, shown) = tls::greet(trust, &self.host, stream).await;
            if let Some(expiry) = shown.earliest_expiry {
                reading.gauge("probe_ssl_earliest_cert_expiry", expiry.as_secs() as f64);
            }
            greeted?;
            reading.gauge("probe_tls_handshake_duration_seconds", begun.elapsed().as_secs_f64());
            Ok(())
        })
    }
}
