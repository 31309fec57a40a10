//! Captured calls and replies of real agents and servers.

use std::{collections::BTreeMap, fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    checks::Health,
    rpc::fake::{pack, unpack},
    wire::msgpack::{Reader, Writer},
};

/// The vectors of this crate, and of every directory that `LICTOR_VECTORS` names.
fn directories() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/rpc");
    let more = std::env::var("LICTOR_VECTORS").unwrap_or_default();
    let more: Vec<PathBuf> = more
        .split(':')
        .filter(|path| !path.is_empty())
        .map(|path| match PathBuf::from(path).join("rpc") {
            inner if inner.is_dir() => inner,
            _ => PathBuf::from(path),
        })
        .collect();
    [vec![own], more].concat()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Every vector of `method`.
fn vectors_of(method: Method) -> Vec<Value> {
    let mut found = Vec::new();
    for directory in directories() {
        let file = directory.join(format!("{}.json", method.name()));
        if let Ok(text) = fs::read_to_string(&file) {
            let Value::Array(list) = serde_json::from_str(&text).unwrap() else { panic!("{file:?} is no list") };
            found.extend(list);
        }
    }
    found
}

/// An item without borrows, to compare.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Instance { node: String, address: String, own: String, port: u16, weights: (u16, u16), health: Health },
    Service { id: String, digest: Digest },
    Check { id: String, digest: Digest },
    Node { name: String, address: String, digest: Digest },
}

fn see(item: Item<'_>) -> Seen {
    match item {
        Item::Instance(i) => Seen::Instance {
            node: i.node.as_str().into(),
            address: i.node_address.as_str().into(),
            own: i.service_address.as_str().into(),
            port: i.port,
            weights: (i.weight_passing, i.weight_warning),
            health: i.health,
        },
        Item::Service { id, digest } => Seen::Service { id: id.unwrap_or("?").into(), digest },
        Item::Check { id, digest } => Seen::Check { id: id.unwrap_or("?").into(), digest },
        Item::Node { name, address, digest } => Seen::Node { name: name.into(), address: address.into(), digest },
    }
}

fn read<'d>(method: Method, pieces: impl Iterator<Item = &'d [u8]>) -> Result<(Reply, Vec<Seen>), crate::wire::Error> {
    let (mut reply, mut seen) = (Reply::new(method), Vec::new());
    for piece in pieces {
        let taken = reply.feed(piece, &mut |item| seen.push(see(item)))?;
        assert!(taken == piece.len() || reply.is_done());
    }
    Ok((reply, seen))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").into()
}

fn number(value: &Value) -> u16 {
    value.as_u64().unwrap_or(0) as u16
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.clone(),
        Value::Object(map) => map.values().cloned().collect(),
        _ => Vec::new(),
    }
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    value.as_object().map(|map| map.iter().map(|(k, v)| (k.clone(), text(v))).collect()).unwrap_or_default()
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

/// What a full decoder says that `reply` holds.
fn expected(method: Method, reply: &Value) -> Vec<Seen> {
    let mut want = Vec::new();
    match method {
        Method::ServiceNodes | Method::ExecuteRemote => {
            for instance in list(&reply["Nodes"]) {
                let checks = list(&instance["Checks"]);
                want.push(Seen::Instance {
                    node: text(&instance["Node"]["Node"]),
                    address: text(&instance["Node"]["Address"]),
                    own: text(&instance["Service"]["Address"]),
                    port: number(&instance["Service"]["Port"]),
                    weights: (
                        number(&instance["Service"]["Weights"]["Passing"]),
                        number(&instance["Service"]["Weights"]["Warning"]),
                    ),
                    health: checks
                        .iter()
                        .map(|check| Health::from_catalog(&text(&check["Status"])))
                        .max()
                        .unwrap_or(Health::Passing),
                });
            }
        }
        Method::NodeServiceList | Method::NodeServices => {
            let services = &reply["NodeServices"];
            if let Some(node) = services["Node"].as_object() {
                let (tagged, meta) = (pairs(&node["TaggedAddresses"]), pairs(&node["Meta"]));
                want.push(Seen::Node {
                    name: text(&node["Node"]),
                    address: text(&node["Address"]),
                    digest: node_digest(&text(&node["ID"]), &borrowed(&tagged), &borrowed(&meta)),
                });
            }
            for service in list(&services["Services"]) {
                want.push(Seen::Service { id: text(&service["ID"]), digest: record_digest(&pack(&service)) });
            }
        }
        Method::NodeChecks => {
            for check in list(&reply["HealthChecks"]) {
                let fixed: BTreeMap<&str, &Value> =
                    ["CheckID", "Name", "Notes", "ServiceID"].iter().map(|&key| (key, &check[key])).collect();
                let digest = check_digest(
                    &pack(&serde_json::to_value(fixed).unwrap()),
                    Health::from_catalog(&text(&check["Status"])),
                    &text(&check["Output"]),
                );
                want.push(Seen::Check { id: text(&check["CheckID"]), digest });
            }
        }
        Method::Register | Method::Deregister | Method::Ping | Method::CoordinateUpdate => {}
    }
    want
}

/// Maps of a real reply come in random order; JSON objects are sorted.
fn sorted(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|item| format!("{item:?}"));
    seen
}

#[test]
fn vectors_decode_to_what_a_full_decoder_says_from_every_chunking() {
    let mut replies = 0;
    for method in Method::ALL {
        for vector in vectors_of(method) {
            let (name, bytes) = (text(&vector["name"]), unhex(vector["response_hex"].as_str().unwrap()));
            let decoded = &vector["response_decoded"];
            let (whole, seen) = read(method, std::iter::once(&bytes[..])).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(whole.is_done(), "{name}");
            assert_eq!(whole.seq(), decoded["header"]["Seq"].as_u64().unwrap_or(0), "{name}");
            let error = text(&decoded["header"]["Error"]);
            assert_eq!(whole.error(), &error[..error.len().min(64)], "{name}");
            if error.is_empty() && !expected(method, &decoded["reply"]).is_empty() {
                assert_eq!(whole.index(), decoded["reply"]["Index"].as_u64().unwrap_or(0), "{name}");
            }
            assert_eq!(sorted(seen.clone()), sorted(expected(method, &decoded["reply"])), "{name}");
            for size in [1, 2, 3, 5, 7, 16, 61, 256, 1000] {
                let (reply, again) = read(method, bytes.chunks(size)).unwrap();
                assert!(reply.is_done() && again == seen, "{name} in pieces of {size}");
            }
            replies += 1;
        }
    }
    // Health.ServiceNodes alone has more than ten: fewer means that the vectors were not found.
    assert!(replies > 25, "only {replies} replies");
}

#[test]
fn vectors_survive_every_truncation_and_every_flipped_octet() {
    for method in Method::ALL {
        for vector in vectors_of(method) {
            let bytes = unhex(vector["response_hex"].as_str().unwrap());
            for cut in 0..bytes.len() {
                if let Ok((reply, _)) = read(method, std::iter::once(&bytes[..cut])) {
                    assert!(!reply.is_done(), "{} is done after {cut} octets", vector["name"]);
                }
            }
            // The long replies repeat themselves: a prefix of every one is tried with every octet changed.
            let mut flipped = bytes.clone();
            for at in 0..bytes.len().min(1500) {
                for mask in [0xff, 0x80, 0x01, 0x20] {
                    flipped[at] = bytes[at] ^ mask;
                    let _ = read(method, flipped.chunks(97));
                }
                flipped[at] = bytes[at];
            }
        }
    }
}

#[test]
fn vectors_of_requests_are_written_as_real_agents_write_them_but_for_zero_fields() {
    let mut checked = 0;
    for method in
        [Method::Deregister, Method::Ping, Method::CoordinateUpdate, Method::ExecuteRemote, Method::ServiceNodes]
    {
        for vector in vectors_of(method) {
            let (header, args) = (&vector["request_decoded"]["header"], &vector["request_decoded"]["args"]);
            let (dc, token) = (text(&args["Datacenter"]), text(&args["Token"]));
            let scope = request::Scope { datacenter: &dc, token: &token };
            let mut out = [0; 2048];
            let mut w = Writer::new(&mut out);
            request::header(&mut w, header["Seq"].as_u64().unwrap(), method);
            let node = text(&args["Node"]);
            match method {
                Method::Ping => request::ping(&mut w),
                Method::Deregister if text(&args["ServiceID"]).is_empty() => {
                    request::deregister(&mut w, scope, &node, request::Removal::Check(&text(&args["CheckID"])));
                }
                Method::Deregister => {
                    request::deregister(&mut w, scope, &node, request::Removal::Service(&text(&args["ServiceID"])));
                }
                Method::CoordinateUpdate => {
                    let at = &args["Coord"];
                    let parts = list(&at["Vec"]);
                    if parts.len() != 8 {
                        continue;
                    }
                    let mut vec = [0.0; 8];
                    for (place, part) in vec.iter_mut().zip(&parts) {
                        *place = part.as_f64().unwrap();
                    }
                    let part = |key: &str| at[key].as_f64().unwrap();
                    let at = crate::wire::coordinate::Coordinate {
                        vec,
                        error: part("Error"),
                        adjustment: part("Adjustment"),
                        height: part("Height"),
                    };
                    request::coordinate(&mut w, scope, &node, &at);
                }
                Method::ExecuteRemote => {
                    let service = &args["Query"]["Service"];
                    request::execute_remote(
                        &mut w,
                        scope,
                        &text(&service["Service"]),
                        &text(&service["Tags"][0]),
                        service["OnlyPassing"].as_bool().unwrap_or(false),
                        number(&args["Limit"]),
                    );
                }
                _ => {
                    if !args["AllowStale"].as_bool().unwrap_or(false) || !text(&args["Filter"]).is_empty() {
                        continue;
                    }
                    request::service_nodes(&mut w, scope, &text(&args["ServiceName"]), &text(&args["ServiceTags"][0]));
                }
            }
            let len = w.finish().unwrap();
            let mut ours = Reader::new(&out[..len]);
            let mut theirs = vector["request_decoded"].clone();
            assert_eq!(unpack(&mut ours), without_zeros(&mut theirs["header"]), "{}", vector["name"]);
            let mut args = unpack(&mut ours);
            assert_eq!(without_zeros(&mut args), without_zeros(&mut theirs["args"]), "{}", vector["name"]);
            assert!(ours.is_empty());
            checked += 1;
        }
    }
    assert!(checked >= 12, "only {checked}");
}

/// Also gives fractions one spelling: with the feature `arbitrary_precision`, which another package of the workspace may
/// turn on, numbers are compared as texts.
fn without_zeros(value: &mut Value) -> Value {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|inner| drop(without_zeros(inner))),
        Value::Number(n) if n.as_i64().is_none() && n.as_u64().is_none() => {
            *value = n.as_f64().map_or(Value::Null, Value::from);
        }
        _ => {}
    }
    if let Value::Object(map) = value {
        for inner in map.values_mut() {
            without_zeros(inner);
        }
        map.retain(|_, inner| match inner {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(n) => n.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        });
    }
    value.clone()
}

#[test]
fn a_register_carries_node_service_and_checks() {
    let service = pack(&serde_json::json!({"ID": "web-1", "Service": "web", "Port": 80}));
    let fixed = pack(&serde_json::json!({"CheckID": "c", "Name": "n"}));
    let check = request::CheckRecord { fixed: &fixed, status: "passing", output: b"fine" };
    let node = request::Node {
        id: "6f1e2d3c-0000-4000-8000-000000000001",
        name: "n1",
        address: "127.0.0.7".parse().unwrap(),
        tagged_addresses: &[("lan", "127.0.0.7")],
        meta: &[("k", "")],
    };
    let scope = request::Scope { datacenter: "dc1", token: "" };
    for (skip, count) in [(false, 0), (true, 1), (false, 2)] {
        let mut out = [0; 1024];
        let mut w = Writer::new(&mut out);
        let checks = std::iter::repeat_n(check, count);
        request::register(&mut w, scope, node, skip, Some(&service), checks);
        let len = w.finish().unwrap();
        let args = unpack(&mut Reader::new(&out[..len]));
        assert_eq!(args["Address"], "127.0.0.7");
        assert_eq!(args["Service"]["Port"], 80);
        assert_eq!(args["SkipNodeUpdate"], if skip { true.into() } else { Value::Null });
        assert_eq!(args["NodeMeta"], if skip { Value::Null } else { serde_json::json!({"k": ""}) });
        let one = serde_json::json!(
            {"CheckID": "c", "Name": "n", "Node": "n1", "Output": "fine", "Status": "passing"});
        match count {
            0 => assert!(args["Check"].is_null() && args["Checks"].is_null()),
            1 => assert_eq!(args["Check"], one),
            _ => assert_eq!(args["Checks"], serde_json::json!([one, one])),
        }
    }
}

#[test]
fn digests_see_every_field_and_no_key_order() {
    let base = serde_json::json!({"ID": "web-1", "Service": "web", "Tags": ["a", "b"], "Address": "", "Port": 80,
        "Meta": {"k": "v"}, "TaggedAddresses": {"lan": {"Address": "1.2.3.4", "Port": 1}},
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false});
    let digest = record_digest(&pack(&base));
    for (field, value) in [
        ("Service", serde_json::json!("wob")),
        ("Tags", serde_json::json!(["b", "a"])),
        ("Tags", serde_json::json!(["a"])),
        ("Address", serde_json::json!("10.0.0.1")),
        ("Port", serde_json::json!(81)),
        ("Meta", serde_json::json!({"k": "w"})),
        ("Meta", serde_json::json!({"k": "v", "l": ""})),
        ("TaggedAddresses", serde_json::json!({"wan": {"Address": "1.2.3.4", "Port": 1}})),
        ("TaggedAddresses", serde_json::json!({"lan": {"Address": "1.2.3.4", "Port": 2}})),
        ("Weights", serde_json::json!({"Passing": 2, "Warning": 1})),
        ("Weights", serde_json::json!({"Passing": 1, "Warning": 2})),
        ("EnableTagOverride", serde_json::json!(true)),
    ] {
        let mut other = base.clone();
        other[field] = value;
        assert_ne!(record_digest(&pack(&other)), digest, "{field}");
    }
    let mut same = base.clone();
    same["CreateIndex"] = 7.into();
    same["Proxy"] = serde_json::json!({"Config": {"deep": [[[[[[[[[[{}]]]]]]]]]]}});
    same.as_object_mut().unwrap().remove("Address");
    assert_eq!(record_digest(&pack(&same)), digest);
}

proptest! {
    #[test]
    fn any_octets_in_any_pieces_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), size in 1usize..40) {
        for method in Method::ALL {
            let whole = read(method, std::iter::once(&bytes[..])).map(|(reply, seen)| (reply.is_done(), seen));
            let pieces = read(method, bytes.chunks(size)).map(|(reply, seen)| (reply.is_done(), seen));
            prop_assert_eq!(whole, pieces);
        }
    }
}
