//! Reads and writes through the cluster: http spec §1.1–§1.3, §2, §3, §6, §7.

use serde_json::{Value, json};

use super::bench::Bench;
use crate::rpc::RpcError;

#[tokio::test]
async fn headers_of_reads() {
    let bench = Bench::start().await;
    let meta = json!({"Index": 9, "LastContact": 15_000_000, "KnownLeader": true});
    bench.cluster.answer("Catalog.ListNodes", Ok(meta.clone()));
    bench.cluster.answer("KVS.Get", Ok(json!({"Index": 0})));
    let answer = bench.get("/v1/catalog/nodes?stale").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    for (name, value) in [
        ("x-consul-index", "9"),
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "15"),
        ("x-consul-effective-consistency", "stale"),
    ] {
        assert_eq!(answer.header(name), value);
    }
    assert_eq!(bench.get("/v1/catalog/nodes").await.header("x-consul-effective-consistency"), "leader");
    assert_eq!(bench.get("/v1/catalog/nodes?consistent").await.header("x-consul-effective-consistency"), "consistent");
    let answer = bench.get("/v1/kv/none").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, ""));
    assert_eq!((answer.header("x-consul-index"), answer.header("x-consul-knownleader")), ("1", "false"));
    assert_eq!(answer.header("x-consul-effective-consistency"), "");
}

#[tokio::test]
async fn options_reach_the_servers() {
    let bench = Bench::start_with(json!({"max_query_time": "10s", "default_query_time": "4s"})).await;
    bench.cluster.answer("Health.ServiceNodes", Ok(json!({"Index": 1})));
    for (query, wanted) in [
        ("?index=7&wait=2s", json!({"MinQueryIndex": 7, "MaxQueryTime": 2_000_000_000_u64})),
        ("?index=7", json!({"MinQueryIndex": 7, "MaxQueryTime": 4_000_000_000_u64})),
        ("?index=7&wait=11s", json!({"MinQueryIndex": 7, "MaxQueryTime": 10_000_000_000_u64})),
        ("?wait=2s", json!({"MinQueryIndex": null})),
        ("?stale", json!({"AllowStale": true})),
        ("?consistent", json!({"RequireConsistent": true})),
        ("?max_stale=5s", json!({"AllowStale": true, "MaxStaleDuration": 5_000_000_000_u64})),
        ("?dc=dc9", json!({"Datacenter": "dc9"})),
        ("?tag=a&tag=b", json!({"ServiceTags": ["a", "b"], "TagFilter": true, "Datacenter": "dc1"})),
        ("?node-meta=k:v", json!({"NodeMetaFilters": {"k": "v"}})),
        ("?filter=Service.Port==80", json!({"Filter": "Service.Port==80"})),
        ("?near=_agent", json!({"Source": {"Datacenter": "dc1", "Node": "n1", "Segment": "", "Ip": ""}})),
    ] {
        assert_eq!(bench.get(&format!("/v1/health/service/web{query}")).await.status, 200, "{query}");
        let (_, args) = bench.cluster.last();
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(args.get(name).unwrap_or(&Value::Null), value, "{query} {name}");
        }
    }
    for (query, why) in [
        ("?wait=5&index=1", "Invalid wait time"),
        ("?index=x", "Invalid index"),
        ("?max_stale=x", "Invalid max_stale value \"x\""),
        ("?stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
        ("?cached&consistent", "Cannot specify ?cached with ?consistent, conflicting semantics."),
        ("?passing=maybe", "Invalid value for ?passing"),
    ] {
        let answer = bench.get(&format!("/v1/health/service/web{query}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, why), "{query}");
    }
}

#[tokio::test]
async fn an_answer_too_old_is_asked_again() {
    let bench = Bench::start().await;
    bench.cluster.answer("Session.List", Ok(json!({"LastContact": 6_000_000_000_u64})));
    bench.cluster.answer("Session.List", Ok(json!({"LastContact": 0, "Index": 3})));
    assert_eq!(bench.get("/v1/session/list?max_stale=5s").await.header("x-consul-index"), "3");
    assert_eq!(bench.cluster.last().1.get("AllowStale"), None);
    assert_eq!(bench.cluster.calls.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn errors_of_the_cluster() {
    let bench = Bench::start().await;
    bench.cluster.answer("Catalog.Register", Err(RpcError::endpoint("rpc error making call: Must provide node")));
    bench.cluster.answer("Catalog.ListServices", Err(RpcError::NoLeader));
    bench.cluster.answer("KVS.Get", Err(RpcError::endpoint("Permission denied")));
    let answer = bench.put("/v1/catalog/register", "{}").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "rpc error making call: Must provide node"));
    let answer = bench.get("/v1/catalog/services").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "No cluster leader"));
    assert_eq!(bench.get("/v1/kv/a").await.status, 403);
}

#[tokio::test]
async fn keys_and_values() {
    let bench = Bench::start().await;
    let entry = json!({"Key": "a", "Value": "hi", "Flags": 3, "LockIndex": 0, "CreateIndex": 4, "ModifyIndex": 5});
    bench.cluster.answer("KVS.Get", Ok(json!({"Index": 5, "Entries": [entry]})));
    let answer = bench.get("/v1/kv/a").await;
    assert_eq!(answer.body, r#"[{"LockIndex":0,"Key":"a","Flags":3,"Value":"aGk=","CreateIndex":4,"ModifyIndex":5}]"#);
    let answer = bench.get("/v1/kv/a?raw").await;
    assert_eq!((answer.body.as_str(), answer.header("content-type")), ("hi", "text/plain"));
    assert_eq!((answer.header("x-content-type-options"), answer.header("x-consul-index")), ("nosniff", "5"));
    bench.cluster.answer("KVS.ListKeys", Ok(json!({"Keys": null})));
    assert_eq!(bench.get("/v1/kv/p/?keys&seperator=/").await.status, 404);
    assert_eq!(bench.cluster.last().1["Seperator"], "/");
    assert_eq!(bench.get("/v1/kv/?keys").await.body, "[]");

    bench.cluster.answer("KVS.Apply", Ok(json!(false)));
    for (method, query, op, body) in [
        ("PUT", "", "set", "true"),
        ("PUT", "?cas=3", "cas", "false"),
        ("PUT", "?acquire=s", "lock", "false"),
        ("PUT", "?release=s", "unlock", "false"),
        ("DELETE", "", "delete", "true"),
        ("DELETE", "?cas=3", "delete-cas", "false"),
        ("DELETE", "?recurse", "delete-tree", "true"),
    ] {
        let answer = bench.send(method, &format!("/v1/kv/a%2Fb{query}"), "x").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{method} {query}");
        let (_, args) = bench.cluster.last();
        assert_eq!((&args["Op"], &args["DirEnt"]["Key"]), (&json!(op), &json!("a/b")));
    }
    for (method, target, status, why) in [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/a?cas=1&acquire=b", 400, "Conflicting flags: acquire=b&cas=1"),
        ("DELETE", "/v1/kv/a?recurse&cas=1", 400, "Conflicting flags: cas=1&recurse="),
        ("PUT", "/v1/kv/a?cas=x", 500, "strconv.ParseUint: parsing \"x\": invalid syntax"),
        ("PUT", "/v1/kv/a?flags=99999999999999999999", 500, {
            "strconv.ParseUint: parsing \"99999999999999999999\": value out of range"
        }),
    ] {
        let answer = bench.send(method, target, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, why), "{target}");
    }
}

#[tokio::test]
async fn sessions() {
    let bench = Bench::start().await;
    bench.cluster.answer("Session.Apply", Ok(json!("id-1")));
    assert_eq!(bench.put("/v1/session/create", "").await.body, r#"{"ID":"id-1"}"#);
    let session = bench.cluster.last().1["Session"].clone();
    assert_eq!((&session["Node"], &session["Behavior"]), (&json!("n1"), &json!("release")));
    assert_eq!((&session["LockDelay"], &session["NodeChecks"]), (&json!(15_000_000_000_u64), &json!(["serfHealth"])));
    bench.put("/v1/session/create", r#"{"lockdelay": 5, "Checks": [], "Unknown": 1}"#).await;
    let session = bench.cluster.last().1["Session"].clone();
    assert_eq!((&session["LockDelay"], &session["NodeChecks"]), (&json!(5_000_000_000_u64), &json!([])));
    assert_eq!(bench.put("/v1/session/create", r#"{"LockDelay": "x"}"#).await.status, 400);
    assert_eq!(bench.put("/v1/session/destroy/id-1", "").await.body, "true");
    assert_eq!(bench.cluster.last().1["Op"], "destroy");
    bench.cluster.answer("Session.Renew", Ok(json!({"Sessions": null})));
    let answer = bench.put("/v1/session/renew/zz", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "Session id 'zz' not found"));
}

#[tokio::test]
async fn registrations_and_lists() {
    let bench = Bench::start().await;
    bench.cluster.answer("Catalog.Register", Ok(json!({})));
    let body = json!({"node": "n", "Address": "1.2.3.4", "Service": {"service": "web", "Port": 80}, "Token": null});
    assert_eq!(bench.put("/v1/catalog/register", &body).await.body, {
        "Request decode failed: json: unknown field \"Token\""
    });
    let body = json!({"node": "n", "Address": "1.2.3.4", "Service": {"service": "web", "Port": 80}});
    assert_eq!(bench.put("/v1/catalog/register", &body).await.body, "true");
    let (_, args) = bench.cluster.last();
    assert_eq!(
        (&args["Node"], &args["Service"]["Service"], &args["Datacenter"]),
        (&json!("n"), &json!("web"), &json!("dc1"))
    );

    let check = |status: &str| json!({"CheckID": "c", "Status": status});
    let nodes = json!([{"Checks": [check("passing")]}, {"Checks": [check("passing"), check("warning")]}]);
    bench.cluster.answer("Health.ServiceNodes", Ok(json!({"Nodes": nodes, "Index": 2})));
    assert_eq!(bench.get("/v1/health/service/web").await.json().as_array().unwrap().len(), 2);
    let passing = bench.get("/v1/health/service/web?passing").await.json();
    assert_eq!(passing.as_array().unwrap().len(), 1);
    assert_eq!((&passing[0]["Service"]["Tags"], &passing[0]["Checks"][0]["ServiceTags"]), (&json!([]), &json!([])));
    bench.cluster.answer("Catalog.NodeServices", Ok(json!({"NodeServices": null, "Index": 2})));
    assert_eq!(bench.get("/v1/catalog/node/zz").await.body, "null");
    for (target, why) in [
        ("/v1/health/service/", "Missing service name"),
        ("/v1/health/node/", "Missing node name"),
        ("/v1/health/state/", "Missing check state"),
        ("/v1/catalog/node/", "Missing node name"),
    ] {
        let answer = bench.get(target).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, why));
    }
}

#[tokio::test]
async fn transactions() {
    let bench = Bench::start().await;
    let results = json!([{"KV": {"Key": "a", "CreateIndex": 3, "ModifyIndex": 3}}]);
    bench.cluster.answer("Txn.Apply", Ok(json!({"Results": results, "Errors": null})));
    bench.cluster.answer("Txn.Read", Ok(json!({"Results": null, "Errors": [{"OpIndex": 0, "What": "no"}]})));
    let answer = bench.put("/v1/txn", r#"[{"kv": {"verb": "cas", "Key": "a", "Value": "MQ==", "Index": 7}}]"#).await;
    assert_eq!((answer.status, &answer.json()["Results"][0]["KV"]["Key"]), (200, &json!("a")));
    let (method, args) = bench.cluster.last();
    let entry = &args["Ops"][0]["KV"]["DirEnt"];
    assert_eq!((method, &entry["Value"], &entry["ModifyIndex"]), ("Txn.Apply", &json!("1"), &json!(7)));

    let answer = bench.put("/v1/txn", &json!([{"KV": {"Verb": "get", "Key": "a"}}])).await;
    assert_eq!((answer.status, bench.cluster.last().0), (409, "Txn.Read"));
    assert_eq!(answer.json()["Errors"][0]["What"], "no");
    assert_eq!((answer.header("x-consul-knownleader"), answer.header("x-consul-index")), ("false", ""));

    let answer = bench.put("/v1/txn", "{").await;
    assert_eq!((answer.status, answer.body.as_str()), (400, "Failed to parse body: unexpected EOF"));
    let many = json!(vec![json!({"KV": {"Verb": "get", "Key": "a"}}); 65]);
    let answer = bench.put("/v1/txn", &many).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "Transaction contains too many operations (65 > 64)"));
}

#[tokio::test]
async fn a_refused_read_has_index_headers_and_a_key_has_not() {
    let bench = Bench::start().await;
    bench.cluster.answer("Catalog.ListNodes", Err(RpcError::endpoint("No path to datacenter")));
    bench.cluster.answer("KVS.Get", Err(RpcError::endpoint("No path to datacenter")));
    let answer = bench.get("/v1/catalog/nodes?dc=x").await;
    assert_eq!((answer.status, answer.header("x-consul-index")), (500, "1"));
    assert_eq!(bench.get("/v1/kv/a?dc=x").await.header("x-consul-index"), "");
}

#[tokio::test]
async fn an_answer_older_than_max_stale_is_asked_again_at_the_leader() {
    let bench = Bench::start().await;
    bench.cluster.answer("Catalog.ListNodes", Ok(json!({"Index": 1, "LastContact": 6_000_000_000_u64})));
    bench.cluster.answer("Catalog.ListNodes", Ok(json!({"Index": 2, "LastContact": 0})));
    let answer = bench.get("/v1/catalog/nodes?max_stale=5s").await;
    assert_eq!((answer.header("x-consul-index"), answer.header("x-consul-lastcontact")), ("2", "0"));
    let calls = bench.cluster.calls.lock().unwrap().clone();
    let stale: Vec<_> = calls.iter().map(|(_, args)| args["AllowStale"] == json!(true)).collect();
    assert_eq!(stale, [true, false]);
}

#[tokio::test]
async fn operator_answers() {
    let bench = Bench::start().await;
    let server = json!({"ID": "i", "Name": "s1", "SerfStatus": 1, "LastContact": 5_000_000, "Healthy": true});
    bench.cluster.answer("Operator.ServerHealth", Ok(json!({"Healthy": false, "Servers": [server]})));
    let answer = bench.get("/v1/operator/autopilot/health").await;
    let row = &answer.json()["Servers"][0];
    assert_eq!((answer.status, &row["SerfStatus"], &row["LastContact"]), (429, &json!("alive"), &json!("5ms")));
    for (query, why) in [
        ("", "Bad request: Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"),
        ("?id=a&address=b", "Bad request: Must specify only one of ?id or ?address"),
    ] {
        let answer = bench.send("DELETE", &format!("/v1/operator/raft/peer{query}"), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (400, why));
    }
    bench.cluster.answer("Operator.AutopilotSetConfiguration", Ok(json!(false)));
    let body = json!({"cleanupDeadServers": true, "LastContactThreshold": "1s"});
    assert_eq!(bench.put("/v1/operator/autopilot/configuration", &body).await.body, "true");
    let (_, args) = bench.cluster.last();
    assert_eq!(args["Config"]["LastContactThreshold"], json!(1_000_000_000));
    assert_eq!(bench.put("/v1/operator/autopilot/configuration?cas=7", &body).await.body, "false");
    assert_eq!(bench.put("/v1/operator/autopilot/configuration?cas=x", &body).await.status, 400);
}

#[tokio::test]
async fn prepared_queries() {
    let bench = Bench::start().await;
    bench.cluster.answer("PreparedQuery.Apply", Ok(json!("uuid")));
    let answer = bench.send("POST", "/v1/query", r#"{"name": "q", "Service": {"service": "web"}}"#).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ID": "uuid"})));
    assert_eq!(bench.cluster.last().1["Query"]["Service"]["Service"], "web");
    assert_eq!(bench.put("/v1/query/uuid", &json!({"Name": "q"})).await.body, "");
    assert_eq!(
        (&bench.cluster.last().1["Op"], &bench.cluster.last().1["Query"]["ID"]),
        (&json!("update"), &json!("uuid"))
    );
    bench.cluster.answer("PreparedQuery.Execute", Err(RpcError::endpoint("rpc error making call: Query not found")));
    let answer = bench.get("/v1/query/a/b/execute").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "rpc error making call: Query not found"));
    assert_eq!(bench.cluster.last().1["QueryIDOrName"], "a/b");
    let answer = bench.get("/v1/query/a/execute?limit=x").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "Bad limit: strconv.Atoi: parsing \"x\": invalid syntax"));
    let answer = bench.send("OPTIONS", "/v1/query/a/explain", "").await;
    assert_eq!((answer.header("allow"), answer.body.as_str()), ("OPTIONS,GET", "{}"));
    assert_eq!(bench.send("PUT", "/v1/query/a/explain", "").await.header("allow"), "GET");
}
