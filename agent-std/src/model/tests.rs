//! Every captured request and reply of the methods we serve passes through our types unchanged.

use std::{fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;
use crate::rpc::codec::{self, Boundary};

/// Zero fields may be left out on the wire: nil, 0, "", false, and structs of nothing else. Empty lists and maps are
/// not zero: they must stay distinct from nil.
fn is_zero_value(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(_) => false,
        Value::Object(map) => !map.is_empty() && map.values().all(is_zero_value),
    }
}

const STRUCTS: [&str; 7] = [".Definition", "Connect", "Proxy", ".Service", ".DNS", ".MeshGateway", ".Expose"];

fn compare(ours: &Value, theirs: &Value, path: &str) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                // The agent's own cache fields; servers ignore them.
                if ["UseCache", "MaxAge", "MustRevalidate", "StaleIfError"].contains(&key.as_str()) {
                    continue;
                }
                let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&at(a), &at(b), &format!("{path}.{key}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}[{n}]"));
            }
        }
        // A struct of zeros, which they left out; `{}` is not nil only for maps.
        (Value::Object(a), Value::Null) if STRUCTS.iter().any(|name| path.ends_with(name)) => {
            a.iter().for_each(|(key, value)| compare(value, &Value::Null, &format!("{path}.{key}")));
        }
        _ if is_zero_value(ours) && is_zero_value(theirs) => {}
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

/// Reads the value that starts `octets` as `T`, writes it, compares, and returns what follows it.
fn through<'a, T: Serialize + DeserializeOwned>(octets: &'a [u8], name: &str) -> &'a [u8] {
    let len = Boundary::default().find(octets).unwrap().expect("a whole value");
    let value: T = codec::from_request(&octets[..len]).unwrap_or_else(|e| panic!("{name}: {e}"));
    let again = codec::to_vec(&value).unwrap();
    let (ours, theirs): (Value, Value) = (codec::from_slice(&again).unwrap(), codec::from_slice(octets).unwrap());
    compare(&ours, &theirs, "");
    for cut in 0..len {
        assert!(codec::from_request::<T>(&octets[..cut]).is_err(), "{name} cut at {cut}");
    }
    &octets[len..]
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

fn method<A: Serialize + DeserializeOwned, R: Serialize + DeserializeOwned>(name: &str) -> usize {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../agent-core/vectors/rpc/{name}.json"));
    let vectors: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    for vector in &vectors {
        let case = vector["name"].as_str().unwrap();
        let octets = |field: &str| unhex(vector[field].as_str().unwrap());
        let request = octets("request_hex");
        let rest = through::<rpc_header::Request>(&request, case);
        assert!(through::<A>(rest, case).is_empty());
        let response = octets("response_hex");
        let rest = through::<rpc_header::Response>(&response, case);
        let failed = vector["response_decoded"]["header"]["Error"] != "";
        let rest = if failed { through::<Empty>(rest, case) } else { through::<R>(rest, case) };
        assert!(rest.is_empty());
    }
    vectors.len()
}

use crate::rpc::header as rpc_header;

#[test]
fn captured_calls_pass_through_our_types() {
    let seen = [
        method::<Empty, Empty>("Status.Ping"),
        method::<DcRequest, String>("Status.Leader"),
        method::<DcRequest, Vec<String>>("Status.Peers"),
        method::<RegisterRequest, Empty>("Catalog.Register"),
        method::<DeregisterRequest, Empty>("Catalog.Deregister"),
        method::<DcRequest, Vec<String>>("Catalog.ListDatacenters"),
        method::<DcRequest, NodesReply>("Catalog.ListNodes"),
        method::<DcRequest, ServicesReply>("Catalog.ListServices"),
        method::<DcRequest, ServiceListReply>("Catalog.ServiceList"),
        method::<ServiceRequest, ServiceNodesReply>("Catalog.ServiceNodes"),
        method::<NodeRequest, NodeServicesReply>("Catalog.NodeServices"),
        method::<NodeRequest, NodeServiceListReply>("Catalog.NodeServiceList"),
        method::<NodeRequest, HealthChecksReply>("Health.NodeChecks"),
        method::<ServiceRequest, HealthChecksReply>("Health.ServiceChecks"),
        method::<ChecksInStateRequest, HealthChecksReply>("Health.ChecksInState"),
        method::<ServiceRequest, CheckServiceNodesReply>("Health.ServiceNodes"),
        method::<KvsRequest, bool>("KVS.Apply"),
        method::<KeyRequest, DirEntriesReply>("KVS.Get"),
        method::<KeyRequest, DirEntriesReply>("KVS.List"),
        method::<KeyListRequest, KeysReply>("KVS.ListKeys"),
        method::<SessionRequest, String>("Session.Apply"),
        method::<SessionSpecificRequest, SessionsReply>("Session.Get"),
        method::<SessionSpecificRequest, SessionsReply>("Session.Renew"),
        method::<DcRequest, SessionsReply>("Session.List"),
        method::<NodeRequest, SessionsReply>("Session.NodeSessions"),
        method::<CoordinateRequest, Empty>("Coordinate.Update"),
        method::<DcRequest, CoordinatesReply>("Coordinate.ListNodes"),
        method::<NodeRequest, NodeDumpReply>("Internal.NodeInfo"),
        method::<DcRequest, NodeDumpReply>("Internal.NodeDump"),
        method::<ServiceDumpRequest, CheckServiceNodesReply>("Internal.ServiceDump"),
        method::<EventFireRequest, EventFireReply>("Internal.EventFire"),
        method::<KeyringRequest, KeyringReply>("Internal.KeyringOperation"),
        method::<TxnRequest, TxnReply>("Txn.Apply"),
        method::<TxnReadRequest, TxnReadReply>("Txn.Read"),
        method::<QueryExecuteRequest, QueryExecuteReply>("PreparedQuery.Execute"),
        method::<QueryExecuteRemoteRequest, QueryExecuteReply>("PreparedQuery.ExecuteRemote"),
    ];
    assert!(seen.iter().all(|&n| n > 0));
}

#[test]
fn json_is_consuls() {
    let mut service = NodeService {
        id: "web-1".into(),
        service: "web".into(),
        tagged_addresses: Some(Map::new()),
        weights: Some(Weights::ONE),
        locally_registered_as_sidecar: true,
        ..<_>::default()
    };
    service.for_json();
    assert_eq!(
        serde_json::to_value(&service).unwrap(),
        json!({
            "ID": "web-1", "Service": "web", "Tags": [], "Address": "", "Meta": null, "Port": 0,
            "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
            "Proxy": {"MeshGateway": {}, "Expose": {}}, "Connect": {}, "CreateIndex": 0, "ModifyIndex": 0,
        })
    );
    let entry = DirEntry { key: "a".into(), value: Some("hi".into()), ..<_>::default() };
    assert_eq!(
        serde_json::to_string(&entry).unwrap(),
        r#"{"LockIndex":0,"Key":"a","Flags":0,"Value":"aGk=","CreateIndex":0,"ModifyIndex":0}"#
    );
    assert_eq!(serde_json::from_str::<DirEntry>(r#"{"Key":"a","Value":"aGk="}"#).unwrap(), entry);
    let definition = CheckDefinition { interval: Nanos(90_000_000_000), http: "http://x".into(), ..<_>::default() };
    let text = r#"{"Interval":"1m30s","HTTP":"http://x"}"#;
    assert_eq!(serde_json::to_string(&definition).unwrap(), text);
    assert_eq!(serde_json::from_str::<CheckDefinition>(text).unwrap(), definition);
    assert_eq!(serde_json::to_value(HealthCheck::default()).unwrap()["Definition"], json!({}));
}

#[test]
fn nil_and_empty_stay_distinct() {
    for octets in [&b"\x81\xa4Tags\x90"[..], b"\x81\xa4Tags\xc0", b"\x81\xafTaggedAddresses\x80", b"\x81\xa4Meta\x80"] {
        let service: NodeService = codec::from_request(octets).unwrap();
        let again: NodeService = codec::from_slice(&codec::to_vec(&service).unwrap()).unwrap();
        assert_eq!(service, again);
        let present = octets[octets.len() - 1] != 0xc0;
        let fields = [service.tags.is_some(), service.tagged_addresses.is_some(), service.meta.is_some()];
        assert_eq!(fields.iter().filter(|&&some| some).count(), usize::from(present));
    }
}
