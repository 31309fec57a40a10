//! Connections and requests: limits before anything is read, methods, tokens, and the headers of every answer.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::{
    Api,
    params::Params,
    reply::{Body, HttpError, Reply, render},
    router::{Endpoint, Route, route},
    v1,
};
use crate::connections::{Clients, Place};

/// A client that has not sent its headers after this long is gone; keeps half-open connections from piling up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body of anything but a KV write: beyond any registration.
const MAX_BODY: usize = 4 << 20;

/// A request as handlers see it.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Method, in capitals as sent.
    pub method: String,
    /// What follows the endpoint's prefix, decoded.
    pub rest: String,
    /// Query.
    pub params: Params,
    /// ACL token; empty: none.
    pub token: String,
    /// Body.
    pub body: Bytes,
}

/// Where connections come from.
pub enum Listener {
    /// Network.
    Tcp(TcpListener),
    /// A socket file.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Listener::Unix(listener)
    }
}

/// Serves until the future is dropped. Connections under way then go on until their request is answered.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: impl Into<Listener>, api: Api) -> io::Result<()> {
    let clients = Clients::default();
    let listener = listener.into();
    loop {
        match &listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, from)) => {
                    let place = clients.admit(from.ip(), api.settings.max_conns_per_client);
                    tokio::spawn(tcp(stream, api.clone(), place));
                }
                Err(error) => survive(error).await?,
            },
            Listener::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(talk(TokioIo::new(stream), api.clone()));
                }
                Err(error) => survive(error).await?,
            },
        }
    }
}

/// Out of file descriptors, or a connection that vanished: try again. Anything else ends the listener.
async fn survive(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::NotFound => Err(error),
        _ => {
            log::warn!("http: accept failed, trying again: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
    }
}

async fn tcp(stream: TcpStream, api: Api, place: Option<Place>) {
    let Some(_place) = place else {
        refuse(stream).await;
        return;
    };
    // Answers are whole; waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    talk(TokioIo::new(stream), api).await;
}

/// Tells a client with too many connections so, as Consul does.
async fn refuse(mut stream: TcpStream) {
    use tokio::io::AsyncWriteExt as _;
    const TEXT: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
                        Your IP is issuing too many concurrent connections, please rate limit your calls\n";
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(TEXT.as_bytes())).await;
}

async fn talk<S>(stream: TokioIo<S>, api: Api)
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(answer(&api, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .half_close(false)
        .serve_connection(stream, service);
    if let Err(error) = connection.await {
        log::debug!("http: connection ended: {error}");
    }
}

async fn answer(api: &Api, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let raw_query = parts.uri.query().unwrap_or_default();
    let (endpoint, methods, rest) = match route(parts.uri.path(), api.settings.allow_unprintable) {
        Route::Found { endpoint, methods, rest } => (endpoint, methods, rest),
        Route::Redirect(path) => return finish(api, redirect(&parts.method, &path, raw_query), false, false),
        Route::Missing => {
            let text = format!("{} is not implemented yet by lictor", parts.uri.path());
            return finish(api, Reply::text(501, text), false, true);
        }
        Route::Unknown => return finish(api, Reply::empty().with_status(404), false, false),
        Route::Bad => return finish(api, Reply::empty().with_status(400), false, false),
    };
    if endpoint == Endpoint::Root {
        return finish(api, Reply::text(200, "Consul Agent"), false, false);
    }
    let allow = || format!("OPTIONS,{}", methods.join(","));
    if parts.method == "OPTIONS" {
        return finish(api, Reply::empty().with_header("Allow", allow()), false, true);
    }
    if !methods.contains(&parts.method.as_str()) {
        let reply = Reply::text(405, format!("method {} not allowed", parts.method)).with_header("Allow", allow());
        return finish(api, reply, false, true);
    }
    let Ok(params) = Params::parse(raw_query) else {
        return finish(api, Reply::empty().with_status(500), false, true);
    };
    let indent = api.settings.indent || params.has("pretty");
    let limit = if endpoint == Endpoint::Kv { api.settings.kv_max_value_size } else { MAX_BODY };
    let body = match read_body(&parts.headers, body, limit).await {
        Ok(body) => body,
        Err(error) => return finish(api, error.into(), indent, true),
    };
    let token = token(&params, &parts.headers);
    let ask = Ask { method: parts.method.as_str().to_owned(), rest, params, token, body };
    let reply = v1::call(api, endpoint, &ask).await.unwrap_or_else(Reply::from);
    finish(api, reply, indent, true)
}

/// The whole body, if it is not longer than `limit`. A length announced too long is refused before a byte is read.
async fn read_body(headers: &HeaderMap, body: Incoming, limit: usize) -> Result<Bytes, HttpError> {
    let too_large = |octets: &str| {
        HttpError::new(
            413,
            format!(
                "Request body({octets} bytes) too large, max size: {limit} bytes. \
                 See https://www.consul.io/docs/agent/options.html#kv_max_value_size."
            ),
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(octets) = announced.filter(|&octets| octets > limit as u64) {
        return Err(too_large(&octets.to_string()));
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large("more")),
        Err(error) => Err(HttpError::bad(format!("Failed to read the body: {error}"))),
    }
}

/// `?token=`, `X-Consul-Token`, `Authorization: Bearer`, in this order.
fn token(params: &Params, headers: &HeaderMap) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bearer = || {
        let mut words = header("authorization").split_whitespace();
        let scheme = words.next().filter(|scheme| scheme.eq_ignore_ascii_case("bearer"));
        scheme.and_then(|_| words.next()).unwrap_or_default()
    };
    [params.first("token"), header("x-consul-token"), bearer()]
        .into_iter()
        .find(|token| !token.is_empty())
        .unwrap_or_default()
        .to_owned()
}

fn redirect(method: &hyper::Method, path: &str, query: &str) -> Reply {
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let body = match *method {
        hyper::Method::GET | hyper::Method::HEAD => {
            let shown = target.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
            Body::Raw("text/html; charset=utf-8", format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n").into())
        }
        _ => Body::Empty,
    };
    Reply { status: 301, body, ..Reply::default() }.with_header("Location", target)
}

/// Headers that every answer has, then the reply's own.
fn finish(api: &Api, reply: Reply, indent: bool, registered: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = match reply.status {
        0 => StatusCode::OK,
        status => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        // A name or value that HTTP cannot carry is left out rather than breaking the answer.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    for (name, value) in &api.settings.response_headers {
        put(name, value);
    }
    if registered {
        put("Vary", "Accept-Encoding");
    }
    if let Some(meta) = &reply.meta {
        put("X-Consul-Index", &meta.index.max(1).to_string());
        put("X-Consul-Knownleader", if meta.known_leader { "true" } else { "false" });
        put("X-Consul-Lastcontact", &meta.last_contact.duration().as_millis().to_string());
    }
    if let Some(word) = reply.consistency {
        put("X-Consul-Effective-Consistency", word);
    }
    for (name, value) in &reply.headers {
        put(name, value);
    }
    let (kind, body) = match reply.body {
        Body::Empty => (None, Bytes::new()),
        Body::Text(text) => (Some("text/plain; charset=utf-8"), text.into()),
        Body::Json(compact) => (Some("application/json"), render(&compact, indent).into()),
        Body::Raw(kind, octets) => (Some(kind), octets),
    };
    if let Some(kind) = kind {
        put("Content-Type", kind);
    }
    *response.headers_mut() = headers;
    *response.body_mut() = Full::new(body);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_tokens() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("bearer b c"));
        let params = |query: &str| Params::parse(query).unwrap();
        assert_eq!(token(&params(""), &headers), "b");
        headers.insert("x-consul-token", HeaderValue::from_static("x"));
        assert_eq!(token(&params(""), &headers), "x");
        assert_eq!(token(&params("token=q"), &headers), "q");
        headers.clear();
        headers.insert("authorization", HeaderValue::from_static("Basic b"));
        assert_eq!(token(&params(""), &headers), "");
    }
}
