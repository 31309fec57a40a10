//! The command line's HTTP client: one request, one connection, Consul's environment and error texts (cli spec §1).
//!
//! HTTPS is refused by name until the agent has TLS.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::ArgMatches;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, body::Body as _, header};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::{context::Context, flags};
use crate::http::url;

/// The longest answer taken: beyond any list of 100,000 instances, but an end.
const MAX_ANSWER: usize = 256 << 20;

/// Long enough for a slow network, short enough to notice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// A socket file.
    Unix(PathBuf),
}

/// A configured client.
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    basic_auth: Option<String>,
    /// Parameters that every request carries: `dc`, `stale`.
    common: Vec<(&'static str, String)>,
    runtime: tokio::runtime::Runtime,
    progress: ProgressBar,
}

/// An answer with status 200, or 404 where the caller allows it.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Why a request did not work. The text is Consul's.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error("{verb} \"{url}\": {why}")]
    Transport {
        /// `Get`, `Put` or `Delete`.
        verb: String,
        /// The whole address.
        url: String,
        /// What the system said.
        why: String,
    },
    /// An answer other than 200.
    #[error("Unexpected response code: {status} ({body})")]
    Status {
        /// HTTP status.
        status: u16,
        /// The body as text.
        body: String,
    },
    /// The same where Consul does not show the body: reads of keys.
    #[error("Unexpected response code: {0}")]
    BareStatus(u16),
    /// The body is not what this request is answered with.
    #[error("cannot decode the agent's answer: {0}")]
    Body(#[from] serde_json::Error),
}

impl Client {
    /// Settings from flags, then environment, then defaults.
    ///
    /// # Errors
    /// A sentence when a token file cannot be read, or for what is not implemented.
    pub fn new(context: &Context<'_>, matches: &ArgMatches) -> Result<Self, String> {
        let setting = |flag: &str, variable: &str| {
            let given = flags::value(matches, flag).filter(|value| !value.is_empty()).map(str::to_owned);
            given.or_else(|| context.env(variable))
        };
        for (flag, variable) in [
            ("ca-file", "CONSUL_CACERT"),
            ("ca-path", "CONSUL_CAPATH"),
            ("client-cert", "CONSUL_CLIENT_CERT"),
            ("client-key", "CONSUL_CLIENT_KEY"),
        ] {
            if setting(flag, variable).is_some() {
                return Err(format!("-{flag} (or {variable}) is not implemented yet by lictor: use plain HTTP"));
            }
        }
        let address = setting("http-addr", "CONSUL_HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:8500".to_owned());
        let secure = context.env("CONSUL_HTTP_SSL").is_some_and(|word| super::goflags::parse_bool(&word) == Some(true));
        if secure || address.starts_with("https://") {
            return Err("HTTPS is not implemented yet by lictor: use plain HTTP".to_owned());
        }
        // A token given directly wins over a file of the same kind; flags win over the environment.
        let token = match (flags::value(matches, "token"), flags::value(matches, "token-file")) {
            (Some(token), _) if !token.is_empty() => Some(token.to_owned()),
            (_, Some(file)) if !file.is_empty() => Some(read_token(file)?),
            _ => match (context.env("CONSUL_HTTP_TOKEN_FILE"), context.env("CONSUL_HTTP_TOKEN")) {
                (_, Some(token)) => Some(token),
                (Some(file), None) => Some(read_token(&file)?),
                (None, None) => None,
            },
        };
        let mut common = Vec::new();
        // Not every command has these two flags.
        if let Ok(Some(dc)) = matches.try_get_one::<String>("datacenter") {
            common.push(("dc", dc.clone()));
        }
        if let Ok(Some(true)) = matches.try_get_one::<bool>("stale") {
            common.push(("stale", String::new()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        Ok(Client {
            endpoint: endpoint(&address)?,
            token,
            basic_auth: context.env("CONSUL_HTTP_AUTH"),
            common,
            runtime,
            progress: ProgressBar::hidden(),
        })
    }

    /// Shows on `progress` how much of an answer has come.
    #[must_use]
    pub fn with_progress(self, progress: ProgressBar) -> Self {
        Client { progress, ..self }
    }

    /// GET, decoded.
    ///
    /// # Errors
    /// No answer, a status other than 200, or a body of another shape.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.expect_ok(Method::GET, path, query, Bytes::new())?)?)
    }

    /// GET of keys, which may answer 404: `None`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn find<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<T>, ClientError> {
        let answer = self.send(Method::GET, path, query, Bytes::new())?;
        match answer.status {
            200 => Ok(Some(serde_json::from_slice(&answer.body)?)),
            404 => Ok(None),
            status => Err(ClientError::BareStatus(status)),
        }
    }

    /// GET; the body as it is.
    ///
    /// # Errors
    /// No answer, or a status other than 200.
    pub fn octets(&self, path: &str) -> Result<Bytes, ClientError> {
        self.expect_ok(Method::GET, path, &[], Bytes::new())
    }

    /// PUT; the body of the answer.
    ///
    /// # Errors
    /// No answer, or a status other than 200.
    pub fn put(&self, path: &str, query: &[(&str, &str)], body: impl Into<Bytes>) -> Result<Bytes, ClientError> {
        self.expect_ok(Method::PUT, path, query, body.into())
    }

    /// DELETE; the body of the answer.
    ///
    /// # Errors
    /// No answer, or a status other than 200.
    pub fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Bytes, ClientError> {
        self.expect_ok(Method::DELETE, path, query, Bytes::new())
    }

    /// Any other request with a body; the answer's body.
    ///
    /// # Errors
    /// No answer, or a status other than 200.
    pub fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Bytes, ClientError> {
        self.expect_ok(method, path, query, body.into())
    }

    fn expect_ok(&self, method: Method, path: &str, query: &[(&str, &str)], body: Bytes) -> Result<Bytes, ClientError> {
        let answer = self.send(method, path, query, body)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(unexpected(&answer)) }
    }

    fn send(&self, method: Method, path: &str, query: &[(&str, &str)], body: Bytes) -> Result<Answer, ClientError> {
        let mut pairs: Vec<(&str, &str)> = query.to_vec();
        pairs.extend(self.common.iter().map(|(name, value)| (*name, value.as_str())));
        // Go's client sorts parameters by name; error texts show the address.
        pairs.sort_by_key(|&(name, _)| name);
        let mut target = path.to_owned();
        for (index, (name, value)) in pairs.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(&format!("{}={}", url::escape_query(name), url::escape_query(value)));
        }
        let verb = match method.as_str() {
            "GET" => "Get",
            "PUT" => "Put",
            _ => "Delete",
        };
        self.runtime.block_on(self.exchange(method, &target, body)).map_err(|why| {
            let host = match &self.endpoint {
                Endpoint::Tcp(address) => address.clone(),
                Endpoint::Unix(path) => path.display().to_string(),
            };
            ClientError::Transport { verb: verb.to_owned(), url: format!("http://{host}{target}"), why }
        })
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> Result<Answer, String> {
        match &self.endpoint {
            Endpoint::Tcp(address) => {
                let stream = connect(address).await?;
                self.talk(stream, address, method, target, body).await
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| format!("dial unix {}: connect: {}", path.display(), reason(&error)))?;
                self.talk(stream, "localhost", method, target, body).await
            }
        }
    }

    async fn talk<S>(&self, stream: S, host: &str, method: Method, target: &str, body: Bytes) -> Result<Answer, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, host);
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        if let Some(auth) = &self.basic_auth {
            use base64::Engine as _;
            let credentials = if auth.contains(':') { auth.clone() } else { format!("{auth}:") };
            let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
            request = request.header(header::AUTHORIZATION, format!("Basic {encoded}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        if let Some(octets) = response.body().size_hint().exact() {
            self.progress.set_length(octets);
        }
        let body = response.into_body().map_frame(|frame| {
            self.progress.inc(frame.data_ref().map_or(0, |data| data.len() as u64));
            frame
        });
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| format!("reading the answer: {error}"))?
            .to_bytes();
        driver.abort();
        Ok(Answer { status, body })
    }
}

/// Connects to `host:port`, trying every address of the name.
async fn connect(address: &str) -> Result<TcpStream, String> {
    let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(address).await {
        Ok(found) => found.collect(),
        Err(_) => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            return Err(format!("dial tcp: lookup {host}: no such host"));
        }
    };
    let mut last = format!("dial tcp: lookup {address}: no such host");
    for candidate in resolved {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("dial tcp {candidate}: connect: {}", reason(&error)),
            Err(_) => last = format!("dial tcp {candidate}: i/o timeout"),
        }
    }
    Err(last)
}

/// The system's words for common failures, as Go prints them.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn broken(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() }
}

fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Status { status: answer.status, body: String::from_utf8_lossy(&answer.body).into_owned() }
}

fn read_token(path: &str) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(format!("Error loading token file: open {path}: {}", reason(&error))),
    }
}

fn endpoint(address: &str) -> Result<Endpoint, String> {
    if let Some(path) = address.strip_prefix("unix://") {
        return Ok(Endpoint::Unix(path.into()));
    }
    let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    match address.split_once("://") {
        Some((scheme, _)) => Err(format!("Unknown protocol scheme: {scheme}")),
        None if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            Ok(Endpoint::Tcp(address.to_owned()))
        }
        None => Ok(Endpoint::Tcp(format!("{address}:80"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_spelling() {
        let tcp = |address: &str| Ok(Endpoint::Tcp(address.to_owned()));
        assert_eq!(endpoint("127.0.0.1:8500"), tcp("127.0.0.1:8500"));
        assert_eq!(endpoint("http://host:1/"), tcp("host:1"));
        assert_eq!(endpoint("host"), tcp("host:80"));
        assert_eq!(endpoint("[::1]:8500"), tcp("[::1]:8500"));
        assert_eq!(endpoint("unix:///run/a.sock"), Ok(Endpoint::Unix("/run/a.sock".into())));
        assert_eq!(endpoint("ftp://x"), Err("Unknown protocol scheme: ftp".to_owned()));
    }
}
