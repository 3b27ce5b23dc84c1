//! How other stores are reached: one client, authentication, and errors in words without secrets.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use paramedic_model::{secret, text};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, Url};

use crate::config::StoreSettings;
use crate::error::RemoteError;

/// Bytes of another program's words that are kept.
const TEXT_BYTES_MAX: usize = 500;
/// Bytes of a failed answer that are read to quote from it.
const QUOTE_BYTES_MAX: usize = 4_096;

#[derive(Debug, Clone)]
pub(crate) struct Store {
    client: Client,
    url: Url,
    settings: StoreSettings,
}

impl Store {
    pub(crate) fn new(settings: &StoreSettings, timeout: Duration) -> Result<Self, RemoteError> {
        let wrong = |reason: String| RemoteError::Setting { key: "store.url", reason: secret::mask(&reason).into_owned() };
        let url = Url::parse(&settings.url).map_err(|err| wrong(format!("{:?} is not an address ({err})", settings.url)))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong(format!("{:?} is not an http or https address", settings.url)));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let wrong = || RemoteError::Setting { key: "store.headers", reason: format!("{name:?} or its value is not a header") };
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // Whoever comes first installs it; all install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("paramedic/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout)
            .build()
            .map_err(|err| RemoteError::Client(cause(&err)))?;
        Ok(Self { client, url, settings: settings.clone() })
    }

    /// A POST to the store's address with more path behind it.
    pub(crate) async fn post(&self, path: &str) -> std::io::Result<RequestBuilder> {
        self.signed(self.client.post(self.address(path))).await
    }

    /// A GET with more path behind the store's address, and a query.
    pub(crate) async fn get(&self, path: &str, query: &str) -> std::io::Result<RequestBuilder> {
        let mut url = self.address(path);
        url.set_query(Some(query));
        self.signed(self.client.get(url)).await
    }

    fn address(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        if !path.is_empty() {
            url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        }
        url
    }

    async fn signed(&self, mut request: RequestBuilder) -> std::io::Result<RequestBuilder> {
        // Files are read each time, so that a new password or token is taken up.
        if let Some(file) = &self.settings.token_file {
            request = request.bearer_auth(first_line(file).await?);
        } else if let Some(user) = &self.settings.user {
            let password = match &self.settings.password_file {
                Some(file) => Some(first_line(file).await?),
                None => None,
            };
            request = request.basic_auth(user, password);
        }
        Ok(request)
    }
}

async fn first_line(file: &Path) -> std::io::Result<String> {
    let named = |err: std::io::Error| std::io::Error::new(err.kind(), format!("{}: {err}", file.display()));
    let text = tokio::fs::read_to_string(file).await.map_err(named)?;
    Ok(text.lines().next().unwrap_or("").trim().to_owned())
}

/// The innermost reason of an error, which is the one a person can act on. The outermost words name the address, which may
/// hold a password, so they are not used.
pub(crate) fn cause(err: &reqwest::Error) -> String {
    let mut inner = err.source();
    while let Some(source) = inner.and_then(Error::source) {
        inner = Some(source);
    }
    match inner {
        Some(inner) => quote(&inner.to_string()),
        None if err.is_timeout() => "it took too long".to_owned(),
        None => "the request failed".to_owned(),
    }
}

/// Foreign words: without secrets, on one line, short.
pub(crate) fn quote(words: &str) -> String {
    let masked = secret::mask(words);
    let line = text::one_line(masked.trim());
    text::capped(&line, TEXT_BYTES_MAX).into_owned()
}

/// What a store says about a failure.
pub(crate) async fn words_of(response: Response) -> String {
    let body = body_of(response, QUOTE_BYTES_MAX).await.unwrap_or_else(|_| Vec::new());
    quote(&String::from_utf8_lossy(&body))
}

/// Why a body was not read.
pub(crate) enum BodyError {
    TooLarge,
    Failed(reqwest::Error),
}

/// The body of an answer, if it has no more than so many bytes.
pub(crate) async fn body_of(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Failed)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
