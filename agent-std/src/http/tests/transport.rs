//! Http spec §1.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::bench::Bench;

#[tokio::test]
async fn methods() {
    let bench = Bench::start().await;
    for (method, target, allow) in [
        ("POST", "/v1/status/leader", "OPTIONS,GET"),
        ("HEAD", "/v1/agent/self", "OPTIONS,GET"),
        ("get", "/v1/kv/a", "OPTIONS,GET,PUT,DELETE"),
        ("GET", "/v1/catalog/register", "OPTIONS,PUT"),
    ] {
        let answer = bench.send(method, target, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {target}");
        if method != "HEAD" {
            assert_eq!(answer.body, format!("method {method} not allowed"));
        }
        assert_eq!(answer.header("vary"), "Accept-Encoding");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    let answer = bench.send("OPTIONS", "/v1/kv/a", "").await;
    assert_eq!((answer.status, answer.header("allow"), answer.body.as_str()), (200, "OPTIONS,GET,PUT,DELETE", ""));
}

#[tokio::test]
async fn paths() {
    let bench = Bench::start().await;
    let answer = bench.get("/nope").await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("vary")), (404, "", ""));
    assert!(!answer.headers.contains_key("content-type"));
    let answer = bench.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "Consul Agent"));
    let answer = bench.get("/v1/kv?x=1&y").await;
    assert_eq!((answer.status, answer.header("location")), (301, "/v1/kv/?x=1&y"));
    assert_eq!(answer.body, "<a href=\"/v1/kv/?x=1&amp;y\">Moved Permanently</a>.\n\n");
    assert_eq!(bench.get("/v1/kv/%01").await.status, 400);
    let answer = bench.get("/v1/kv/a?%zz").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, ""));
    let answer = bench.get("/v1/acl/list").await;
    assert_eq!((answer.status, answer.body.as_str()), (501, "/v1/acl/list is not implemented yet by lictor"));
}

#[tokio::test]
async fn unprintable_paths_can_be_allowed() {
    let bench = Bench::start_with(json!({"disable_http_unprintable_char_filter": true})).await;
    bench.cluster.answer("KVS.Get", Ok(json!({"Entries": null})));
    assert_eq!(bench.get("/v1/kv/%01").await.status, 404);
    assert_eq!(bench.cluster.last().1["Key"], "\u{1}");
}

#[tokio::test]
async fn json_is_compact_or_pretty() {
    let bench = Bench::start().await;
    bench.cluster.answer("Status.Peers", Ok(json!(["a<b"])));
    let answer = bench.get("/v1/status/peers").await;
    assert_eq!((answer.body.as_str(), answer.header("content-type")), (r#"["a\u003cb"]"#, "application/json"));
    for query in ["?pretty", "?pretty=false"] {
        let answer = bench.get(&format!("/v1/status/peers{query}")).await;
        assert_eq!(answer.body, "[\n    \"a\\u003cb\"\n]\n");
    }
}

#[tokio::test]
async fn configured_headers_are_everywhere() {
    let bench = Bench::start_with(json!({"http_config": {"response_headers": {"X-Y": "z"}}})).await;
    for target in ["/nope", "/", "/v1/agent/members"] {
        assert_eq!(bench.get(target).await.header("x-y"), "z");
    }
}

#[tokio::test]
async fn bodies_are_limited_before_they_are_read() {
    let bench = Bench::start_with(json!({"limits": {"kv_max_value_size": 8}})).await;
    // Announced too long: refused although not one octet of it was sent.
    let head = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
    let answer = bench.raw(head).await;
    let text = "Request body(9 bytes) too large, max size: 8 bytes. ";
    assert!(answer.status == 413 && answer.body.starts_with(text), "{answer:?}");
    // Not announced: refused when it becomes too long.
    let chunked = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
    assert_eq!(bench.raw(chunked).await.status, 413);
    bench.cluster.answer("KVS.Apply", Ok(json!(false)));
    assert_eq!(bench.put("/v1/kv/a", "12345678").await.body, "true");
}

#[tokio::test]
async fn one_address_holds_only_so_many_connections() {
    let bench = Bench::start_with(json!({"limits": {"http_max_conns_per_client": 1}})).await;
    let mut first = TcpStream::connect(bench.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // Its answer proves that it was admitted; it stays open.
    let mut octet = [0];
    first.read_exact(&mut octet).await.unwrap();
    let mut second = TcpStream::connect(bench.address).await.unwrap();
    let mut text = String::new();
    second.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
}

#[tokio::test]
async fn tokens_are_sent_on() {
    let bench = Bench::start().await;
    bench.cluster.answer("KVS.Get", Ok(json!({})));
    bench.raw(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX-CONSUL-token: t\r\nConnection: close\r\n\r\n").await;
    assert_eq!(bench.cluster.last().1["Token"], "t");
}
