//! Which cluster is spoken to, and as whom: from the settings, a kubeconfig or the service account of the pod we run in.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::Settings;

/// What a pod finds about its own cluster.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A kubeconfig larger than this is something else.
const KUBECONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// An address, whom to trust and how to name oneself.
#[derive(Default)]
pub(super) struct Access {
    pub(super) server: String,
    /// Certificate authorities as PEM; none: those of the system.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) token: Option<String>,
    /// A client certificate with its key, as PEM.
    pub(super) identity: Option<Vec<u8>>,
    /// Where it comes from, in words.
    pub(super) source: String,
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(default, rename = "current-context")]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<ContextEntry>>,
    #[serde(default)]
    clusters: Vec<Named<ClusterEntry>>,
    #[serde(default)]
    users: Vec<Named<UserEntry>>,
}

/// One entry of a list of the kubeconfig; what it holds lies under a key that says what it is.
#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    of: Option<T>,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

impl Access {
    /// Read anew for each action, so that a new token or certificate is taken up.
    pub(super) fn find(settings: &Settings) -> Result<Self, String> {
        let access = if !settings.server.is_empty() {
            Self::from_settings(settings)?
        } else if let Some(path) = kubeconfig_path(settings) {
            Self::from_kubeconfig(&path, &settings.context)?
        } else if let (Ok(host), Ok(port)) = (std::env::var("KUBERNETES_SERVICE_HOST"), std::env::var("KUBERNETES_SERVICE_PORT")) {
            Self::from_service_account(&host, &port)?
        } else {
            return Err("no cluster is set up; set action.kubernetes.kubeconfig, or action.kubernetes.server with token_file and ca_file"
                .to_owned());
        };
        access.refuse_open_line()?;
        Ok(access)
    }

    fn from_settings(settings: &Settings) -> Result<Self, String> {
        let authorities = settings.ca_file.as_deref().map(read).transpose()?;
        let token = settings.token_file.as_deref().map(read_line).transpose()?;
        Ok(Self { server: settings.server.clone(), authorities, token, identity: None, source: "the settings".to_owned() })
    }

    fn from_service_account(host: &str, port: &str) -> Result<Self, String> {
        let folder = Path::new(SERVICE_ACCOUNT);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Self {
            server: format!("https://{host}:{port}"),
            authorities: Some(read(&folder.join("ca.crt"))?),
            token: Some(read_line(&folder.join("token"))?),
            identity: None,
            source: "the service account of this pod".to_owned(),
        })
    }

    fn from_kubeconfig(path: &Path, context: &str) -> Result<Self, String> {
        let named = path.display();
        let text = String::from_utf8(read(path)?).map_err(|_| format!("{named} is not text"))?;
        // The reason is not repeated: it may quote a line with a key.
        let config: Kubeconfig = serde_saphyr::from_str(&text).map_err(|_| format!("{named} is not a kubeconfig"))?;
        let context = if context.is_empty() { &config.current_context } else { context };
        let entry = pick(&config.contexts, context).ok_or_else(|| format!("{named} has no context {context:?}"))?;
        let cluster = pick(&config.clusters, &entry.cluster).ok_or_else(|| format!("{named} has no cluster {:?}", entry.cluster))?;
        let nobody = UserEntry::default();
        let user = match pick(&config.users, &entry.user) {
            Some(user) => user,
            None if entry.user.is_empty() => &nobody,
            None => return Err(format!("{named} has no user {:?}", entry.user)),
        };
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut access = Self { server: cluster.server.clone(), source: format!("the context {context} of {named}"), ..Self::default() };
        access.trust(cluster, folder)?;
        access.name_oneself(user, folder).map_err(|why| format!("the user {:?} of {named} {why}", entry.user))?;
        Ok(access)
    }

    fn trust(&mut self, cluster: &ClusterEntry, folder: &Path) -> Result<(), String> {
        let refused = [
            (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify", "give its certificate-authority instead"),
            (cluster.tls_server_name.is_some(), "tls-server-name", "name the server as its certificate does"),
            (cluster.proxy_url.is_some(), "proxy-url", "reach it directly"),
        ];
        if let Some((_, key, instead)) = refused.iter().find(|(set, _, _)| *set) {
            return Err(format!("the cluster of {} has {key}, which is not supported; {instead}", self.source));
        }
        self.authorities = either(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref(), folder)?;
        Ok(())
    }

    fn name_oneself(&mut self, user: &UserEntry, folder: &Path) -> Result<(), String> {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("gets its credentials from another program, which is never run here; make a service account for Paramedic and give its token".to_owned());
        }
        if user.username.is_some() {
            return Err("has a name and a password, which Kubernetes does not take any more; give a token".to_owned());
        }
        self.token = match (&user.token, &user.token_file) {
            (_, Some(file)) => Some(read_line(&folder.join(file))?),
            (token, None) => token.clone(),
        };
        let certificate = either(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), folder)?;
        let key = either(user.client_key_data.as_deref(), user.client_key.as_deref(), folder)?;
        self.identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some([certificate, b"\n".to_vec(), key].concat()),
            (None, None) => None,
            _ => return Err("has a client certificate without its key, or a key without its certificate".to_owned()),
        };
        Ok(())
    }

    /// A token must not travel in the open.
    fn refuse_open_line(&self) -> Result<(), String> {
        let url = reqwest::Url::parse(&self.server).map_err(|_| format!("the server of {} is not an address", self.source))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("the server of {} has a name or password in its address; give a token instead", self.source));
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if is_loopback(&url) => Ok(()),
            "http" => Err(format!("the server of {} is plain http, which is for this machine only; use https", self.source)),
            other => Err(format!("the server of {} begins with {other}, not https", self.source)),
        }
    }
}

pub(super) fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The file of the settings, else the first of `$KUBECONFIG`, else that of the home folder where it is there.
fn kubeconfig_path(settings: &Settings) -> Option<PathBuf> {
    if let Some(path) = &settings.kubeconfig {
        return Some(path.clone());
    }
    let first = |paths: std::ffi::OsString| std::env::split_paths(&paths).find(|path| !path.as_os_str().is_empty());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config")).filter(|path| path.is_file());
    std::env::var_os("KUBECONFIG").and_then(first).or_else(home)
}

fn pick<'a, T>(entries: &'a [Named<T>], name: &str) -> Option<&'a T> {
    entries.iter().find(|entry| entry.name == name)?.of.as_ref()
}

/// What is written in the kubeconfig itself goes before the file that it names.
fn either(data: Option<&str>, file: Option<&Path>, folder: &Path) -> Result<Option<Vec<u8>>, String> {
    match (data, file) {
        (Some(data), _) if !data.is_empty() => {
            let packed: String = data.chars().filter(|letter| !letter.is_whitespace()).collect();
            let decoded = base64::engine::general_purpose::STANDARD.decode(packed);
            decoded.map(Some).map_err(|_| "has data that is not base64".to_owned())
        }
        (_, Some(file)) => read(&folder.join(file)).map(Some),
        _ => Ok(None),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(path).map_err(named)?.len() > KUBECONFIG_BYTES_MAX {
        return Err(format!("{} is larger than {KUBECONFIG_BYTES_MAX} bytes", path.display()));
    }
    std::fs::read(path).map_err(named)
}

fn read_line(path: &Path) -> Result<String, String> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
