//! Connections and requests: limits before anything is read, methods, tokens, and the headers of every answer.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
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
use crate::{
    connections::{Clients, Place},
    rpc::MAX_ARCHIVE,
};

/// A client that has not sent its headers after this long is gone; keeps half-open connections from piling up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body of anything but a KV write: beyond any registration.
const MAX_BODY: usize = 4 << 20;

/// How long a body that is too long is read, and thrown away.
const DRAIN: Duration = Duration::from_secs(1);

/// Shorter bodies are sent as they are: they fit a packet either way.
const MIN_COMPRESSED: usize = 1400;

/// Type of an archive, which is compressed already.
const ARCHIVE: &str = "application/x-gzip";

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

/// The request itself is no part of the future: its headers are let go before the handler begins, which may wait for
/// minutes, and thousands may.
fn answer<'a>(api: &'a Api, request: Request<Incoming>) -> impl Future<Output = Response<Full<Bytes>>> + 'a {
    let gzip = accepts_gzip(request.headers());
    let received = Box::pin(receive(api, request));
    async move {
        let response = match received.await {
            Ok((endpoint, ask, indent)) => {
                let reply = v1::call(api, endpoint, &ask).await.unwrap_or_else(Reply::from);
                finish(api, reply, indent, true)
            }
            Err(response) => response,
        };
        if gzip { compressed(response) } else { response }.map(Full::new)
    }
}

/// Whether the client takes gzip: named, and not with weight zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The same answer with its body in gzip, where it is said to vary by `Accept-Encoding` and is long enough to gain.
fn compressed(mut response: Response<Bytes>) -> Response<Bytes> {
    let is_archive = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == ARCHIVE);
    let plain = response.body();
    if plain.len() < MIN_COMPRESSED || is_archive || !response.headers().contains_key(header::VARY) {
        return response;
    }
    let mut out = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    // Writing to memory does not fail; if it ever did, the answer would stay as it is.
    if let Ok(octets) = out.write_all(plain).and_then(|()| out.finish()) {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *response.body_mut() = octets.into();
    }
    response
}

/// What is asked, and whether the answer is to be indented; or the answer, where no handler is needed for it.
async fn receive(api: &Api, request: Request<Incoming>) -> Result<(Endpoint, Ask, bool), Response<Bytes>> {
    let (parts, body) = request.into_parts();
    let raw_query = parts.uri.query().unwrap_or_default();
    let (endpoint, methods, rest) = match route(parts.uri.path(), api.settings.allow_unprintable) {
        Route::Found { endpoint, methods, rest } => (endpoint, methods, rest),
        Route::Redirect(path) => return Err(finish(api, redirect(&parts.method, &path, raw_query), false, false)),
        Route::Missing => {
            let text = format!("{} is not implemented yet by lictor", parts.uri.path());
            return Err(finish(api, Reply::text(501, text), false, true));
        }
        Route::Unknown => return Err(finish(api, Reply::empty().with_status(404), false, false)),
        Route::Bad => return Err(finish(api, Reply::empty().with_status(400), false, false)),
    };
    if endpoint == Endpoint::Root {
        return Err(finish(api, Reply::text(200, "Consul Agent"), false, false));
    }
    // Consul looks at these paths' methods itself, in its own way.
    let is_query = endpoint == Endpoint::Query;
    let executes = is_query && (rest.ends_with("/execute") || rest.ends_with("/explain"));
    let methods = if executes { &["GET"] } else { methods };
    let options = parts.method == "OPTIONS";
    let with_options = if is_query && !options { "" } else { "OPTIONS," };
    let allow = || format!("{with_options}{}", methods.join(","));
    if options {
        let reply = if is_query { Reply::json(&serde_json::Map::new()) } else { Reply::empty() };
        return Err(finish(api, reply.with_header("Allow", allow()), api.settings.indent, true));
    }
    if !methods.contains(&parts.method.as_str()) {
        let reply = Reply::text(405, format!("method {} not allowed", parts.method)).with_header("Allow", allow());
        return Err(finish(api, reply, false, true));
    }
    let Ok(params) = Params::parse(raw_query) else {
        return Err(finish(api, Reply::empty().with_status(500), false, true));
    };
    let indent = api.settings.indent || params.has("pretty");
    let limit = match endpoint {
        Endpoint::Kv | Endpoint::Txn => api.settings.kv_max_value_size,
        Endpoint::Snapshot => MAX_ARCHIVE,
        _ => MAX_BODY,
    };
    let option = if endpoint == Endpoint::Txn { "txn_max_req_len" } else { "kv_max_value_size" };
    let body = match read_body(&parts.headers, body, limit, option).await {
        Ok(body) => body,
        Err(error) => return Err(finish(api, error.into(), indent, true)),
    };
    let token = token(&params, &parts.headers);
    let ask = Ask { method: parts.method.as_str().to_owned(), rest, params, token, body };
    Ok((endpoint, ask, indent))
}

/// The whole body, if it is not longer than `limit`, which `option` sets. What is too long is never kept, but read for a
/// while: a client that is still sending would not see the answer.
async fn read_body(headers: &HeaderMap, mut body: Incoming, limit: usize, option: &str) -> Result<Bytes, HttpError> {
    let too_large = |octets: &str| {
        HttpError::new(
            413,
            format!(
                "Request body({octets} bytes) too large, max size: {limit} bytes. \
                 See https://www.consul.io/docs/agent/options.html#{option}."
            ),
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(octets) = announced.filter(|&octets| octets > limit as u64) {
        let drain = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = tokio::time::timeout(DRAIN, drain).await;
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
fn finish(api: &Api, reply: Reply, indent: bool, registered: bool) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
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
    *response.body_mut() = body;
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

    #[test]
    fn gzip_is_for_those_who_ask_and_for_bodies_that_gain() {
        use std::io::Read as _;
        let headers =
            |text: &'static str| HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]);
        for (text, takes) in [("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false), ("", false)]
        {
            assert_eq!(accepts_gzip(&headers(text)), takes, "{text}");
        }
        let response = |octets: usize, vary: bool| {
            let mut response = Response::new(Bytes::from(vec![b'a'; octets]));
            if vary {
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            }
            response
        };
        for (octets, vary) in [(100, true), (5000, false)] {
            assert_eq!(compressed(response(octets, vary)).body().len(), octets);
        }
        let small = compressed(response(5000, true));
        assert_eq!(small.headers()[header::CONTENT_ENCODING], "gzip");
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&small.body()[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, vec![b'a'; 5000]);
    }
}
