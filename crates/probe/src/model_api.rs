//! Whether a model API can be reached, without spending a token: its list of models is asked for, usually without a key.
//!
//! Any answer in HTTP shows that the way there is open; a server error or 529 shows that the service is degraded.

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use paramedic_model::Timestamp;

use crate::config::ModelApiSettings;
use crate::error::{Failure, ProbeError};
use crate::http::{self, Client};
use crate::plan::{Identity, Looking, Opened, Probe, from_env};
use crate::reading::Reading;
use crate::tls::Trust;

const STATES: [&str; 5] = ["ok", "unauthorized", "rate_limited", "degraded", "unreachable"];

pub(crate) fn open(settings: &ModelApiSettings) -> Result<Opened, ProbeError> {
    let target = || "model_api target".to_owned();
    let base = http::read_url(&settings.url).map_err(|reason| ProbeError::setting(target(), "url", reason))?;
    let place = http::place_of(&base).ok_or_else(|| ProbeError::setting(target(), "url", "names no host"))?;
    let whole = format!("{}{}", settings.url.trim_end_matches('/'), settings.path);
    let url = http::read_url(&whole).map_err(|reason| ProbeError::setting(target(), "path", reason))?;
    let mut headers = HeaderMap::new();
    let version = HeaderValue::from_str(&settings.version).map_err(|err| ProbeError::setting(target(), "version", err))?;
    headers.insert("anthropic-version", version);
    if let Some(variable) = &settings.key_env {
        let key = from_env(&target(), "key_env", variable)?;
        let mut value = HeaderValue::from_str(&key).map_err(|err| ProbeError::setting(target(), "key_env", err))?;
        value.set_sensitive(true);
        headers.insert("x-api-key", value);
    }
    let trust = Trust::of(settings.ca_file.as_deref(), settings.insecure).map_err(|err| ProbeError::setting(target(), "ca_file", err))?;
    let client = Client::new(trust, Method::GET, headers);
    let instance = match base.port() {
        Some(_) => place.to_string(),
        None => base.host().unwrap_or_default().to_owned(),
    };
    let identity = Identity { instance, address: whole };
    Ok((identity, Box::new(ModelApi { url, client, has_key: settings.key_env.is_some() })))
}

struct ModelApi {
    url: Uri,
    client: Client,
    has_key: bool,
}

/// What a status says of the service.
fn state_of(status: u16, has_key: bool) -> &'static str {
    match status {
        401 | 403 if has_key => "unauthorized",
        429 => "rate_limited",
        500.. => "degraded",
        _ => "ok",
    }
}

impl Probe for ModelApi {
    fn look<'a>(&'a mut self, _now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            let fetched = self.client.fetch(&self.url, reading).await;
            let state = fetched.as_ref().map_or("unreachable", |answer| state_of(answer.status, self.has_key));
            tell_state(state, reading);
            let status = fetched?.status;
            match state {
                "degraded" => Err(Failure::new(format_args!("the service is degraded: status {status}"))),
                "unauthorized" => Err(Failure::new(format_args!("the key is refused: status {status}"))),
                _ => Ok(()),
            }
        })
    }

    fn cut(&mut self, reading: &mut Reading) -> Option<&'static str> {
        tell_state("unreachable", reading);
        self.client.cut(reading)
    }
}

fn tell_state(state: &str, reading: &mut Reading) {
    for known in STATES {
        reading.add("agent_anthropic_api_state", &[("state", known)], f64::from(u8::from(known == state)));
    }
    reading.gauge("agent_anthropic_api_reachable", f64::from(u8::from(state != "unreachable")));
    reading.gauge("agent_anthropic_api_degraded", f64::from(u8::from(state == "degraded")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_answer_but_an_error_of_the_server_is_good() {
        for (status, has_key, expected) in [
            (200, true, "ok"),
            (401, false, "ok"),
            (401, true, "unauthorized"),
            (403, false, "ok"),
            (404, false, "ok"),
            (405, true, "ok"),
            (429, false, "rate_limited"),
            (500, false, "degraded"),
            (529, true, "degraded"),
        ] {
            assert_eq!(state_of(status, has_key), expected, "{status}");
        }
    }
}
