//! The agent's own endpoints: http spec §5 and events.

use serde_json::json;

use super::bench::Bench;

#[tokio::test]
async fn services() {
    let bench = Bench::start().await;
    let body = json!({"Name": "web", "ID": "w1", "Port": 80, "Check": {"TTL": "5s"}, "Tags": null});
    let answer = bench.put("/v1/agent/service/register?replace-existing-checks=true", &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(bench.local.log(), ["service w1 replace=true"]);
    let services = bench.get("/v1/agent/services").await.json();
    assert_eq!(
        services["w1"],
        json!({
            "ID": "w1", "Service": "web", "Tags": [], "Meta": {}, "Port": 80, "Address": "",
            "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
        })
    );
    let answer = bench.get("/v1/agent/service/w1").await;
    let hash = answer.header("x-consul-contenthash").to_owned();
    assert!(hash.len() == 16 && answer.json()["ContentHash"] == hash.as_str());
    let answer = bench.get("/v1/agent/service/zz").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "unknown service ID: zz"));

    // Blocks while the hash is the same; a change wakes it.
    let target = format!("/v1/agent/service/w1?hash={hash}&wait=60s");
    let (answer, _) = tokio::join!(bench.get(&target), async {
        while bench.local.changes.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        bench.put("/v1/agent/service/register", json!({"Name": "web", "ID": "w1", "Port": 81})).await
    });
    assert_eq!(answer.json()["Port"], 81);
    let answer =
        bench.get(&format!("/v1/agent/service/w1?hash={}&wait=1ms", answer.header("x-consul-contenthash"))).await;
    assert_eq!(answer.status, 200, "the wait is over");

    assert_eq!(bench.put("/v1/agent/service/deregister/w1", "").await.status, 200);
    assert_eq!(bench.get("/v1/agent/services").await.body, "{}");
}

#[tokio::test]
async fn bad_registrations() {
    let bench = Bench::start().await;
    for (target, body, status, why) in [
        ("service", "", 400, "Request decode failed: EOF"),
        ("service", r#"{"Nam":1}"#, 400, "Request decode failed: json: unknown field \"Nam\""),
        ("service", "{}", 400, "Missing service name"),
        ("service", r#"{"Name":"a","Address":"0.0.0.0"}"#, 400, "Invalid service address"),
        ("check", r#"{"Name":"a","CheckID":"x"}"#, 400, "Request decode failed: json: unknown field \"CheckID\""),
        ("check", r#"{"Name":"a","HTTP":"http://x"}"#, 400, {
            "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks"
        }),
        ("check", r#"{"Name":"a","TTL":"5s","ServiceID":"x"}"#, 500, "ServiceID \"x\" does not exist"),
        ("check", r#"{"Name":"a","Args":["true"],"Interval":"5s"}"#, 500, {
            "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
        }),
    ] {
        let answer = bench.put(&format!("/v1/agent/{target}/register"), body).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, why), "{body}");
    }
    assert!(bench.local.log().is_empty());
}

#[tokio::test]
async fn checks_and_health() {
    let bench = Bench::start().await;
    bench.put("/v1/agent/service/register", json!({"Name": "web", "Check": {"TTL": "5s", "Status": "passing"}})).await;
    bench.local.log();
    assert_eq!(bench.get("/v1/agent/health/service/id/web?format=text").await.body, "passing");
    assert_eq!(bench.put("/v1/agent/check/warn/service:web?note=hm", "").await.status, 200);
    assert_eq!(bench.local.log(), ["service:web is warning hm"]);
    let answer = bench.get("/v1/agent/health/service/name/web").await;
    assert_eq!((answer.status, answer.header("x-consul-reason")), (429, "warning"));
    assert_eq!(answer.json()[0]["AggregatedStatus"], "warning");
    bench.put("/v1/agent/check/update/service:web", json!({"Status": "critical", "Output": "o"})).await;
    assert_eq!(bench.get("/v1/agent/health/service/id/web").await.status, 503);
    let answer = bench.put("/v1/agent/check/update/service:web", json!({"Status": "bad"})).await;
    assert_eq!((answer.status, answer.body.as_str()), (400, "Invalid check status: 'bad'"));
    let answer = bench.put("/v1/agent/check/pass/zz", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "CheckID \"zz\" does not have associated TTL"));

    let answer = bench.get("/v1/agent/health/service/id/zz").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, { r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"# })
    );
    assert_eq!(bench.get("/v1/agent/health/service/id/zz?format=text").await.body, "\"ServiceId zz not found\"");
    let answer = bench.get("/v1/agent/health/service/name/zz").await;
    assert_eq!((answer.body.as_str(), answer.header("x-consul-reason")), ("[]", "ServiceName zz Not Found"));
    assert_eq!(bench.get("/v1/agent/checks").await.json()["service:web"]["ServiceTags"], json!([]));
}

#[tokio::test]
async fn maintenance() {
    let bench = Bench::start().await;
    for (target, status, why) in [
        ("/v1/agent/maintenance", 400, "Missing value for enable"),
        ("/v1/agent/maintenance?enable=x", 400, "Invalid value for enable: \"x\""),
        ("/v1/agent/service/maintenance/", 400, "Missing service ID"),
        ("/v1/agent/service/maintenance/zz?enable=true", 404, "No service registered with ID \"zz\""),
        ("/v1/agent/maintenance?enable=true&reason=because", 200, ""),
    ] {
        let answer = bench.put(target, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, why));
    }
    assert_eq!(bench.local.log(), ["check _node_maintenance false because"]);
    bench.put("/v1/agent/service/register", json!({"Name": "web"})).await;
    let answer = bench.get("/v1/agent/health/service/id/web?format=text").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "maintenance"));
    bench.put("/v1/agent/maintenance?enable=false", "").await;
    assert_eq!(bench.get("/v1/agent/health/service/id/web").await.status, 200);
}

#[tokio::test]
async fn the_pool() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/v1/agent/members?segment=_all").await.json()[0]["Name"], "n1");
    assert_eq!(bench.get("/v1/agent/members?wan=1").await.body, "[]");
    assert_eq!(bench.get("/v1/agent/members?wan=1&segment=x").await.body, "Cannot provide a segment with wan=true");
    assert_eq!(bench.put("/v1/agent/join/10.0.0.1:8301?wan=1", "").await.status, 200);
    assert_eq!(bench.put("/v1/agent/force-leave/n2?prune", "").await.status, 200);
    let answer = bench.put("/v1/agent/force-leave/x", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, "agent: No node found with name 'x'"));
    bench.put("/v1/agent/reload", "").await;
    bench.put("/v1/agent/leave", "").await;
    let done = ["join 10.0.0.1:8301 wan=true", "force-leave n2 prune=true", "reload", "leave"];
    assert_eq!(bench.local.log(), done);
    let itself = bench.get("/v1/agent/self").await.json();
    assert_eq!((&itself["Config"]["NodeID"], &itself["Member"]["Name"]), (&json!("node-id"), &json!("n1")));
}

#[tokio::test]
async fn events() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/v1/event/list").await.body, "[]");
    let fired = bench.put("/v1/event/fire/deploy?node=n.*&dc=dc2", "hi").await.json();
    assert_eq!((&fired["Payload"], &fired["LTime"], &fired["NodeFilter"]), (&json!("aGk="), &json!(0), &json!("n.*")));
    assert_eq!(bench.local.log(), ["fire deploy dc2"]);
    let answer = bench.get("/v1/event/list?name=deploy").await;
    assert_eq!(answer.json()[0]["LTime"], 7);
    let index = answer.header("x-consul-index");
    // Blocks while the index is the same.
    let target = format!("/v1/event/list?index={index}&wait=60s");
    let (answer, _) = tokio::join!(bench.get(&target), async {
        while bench.local.changes.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        bench.put("/v1/event/fire/again", "").await
    });
    assert_eq!(answer.json().as_array().unwrap().len(), 2);
    for (target, status, why) in [
        ("/v1/event/fire/", 400, "Missing name"),
        ("/v1/event/fire/x?tag=a", 500, "Cannot provide tag filter without service filter"),
    ] {
        let answer = bench.put(target, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, why));
    }
    assert!(
        bench.put("/v1/event/fire/x?node=(", "").await.body.starts_with("Invalid node filter: error parsing regexp: ")
    );
}
