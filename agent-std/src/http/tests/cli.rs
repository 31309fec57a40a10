//! Our command line against our API.

use serde_json::json;

use super::bench::Bench;
use crate::cli::{product::Product, tests::run_with};

/// Runs a command beside the server.
async fn command(bench: &Bench, args: &[&str]) -> (u8, String, String) {
    let address = bench.address.to_string();
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_with(Product::Consul, &args, &[("CONSUL_HTTP_ADDR", &address)], "")
    });
    let ran = ran.await.unwrap();
    (ran.code, ran.out, ran.err)
}

#[tokio::test]
async fn commands_talk_to_the_api() {
    let bench = Bench::start().await;
    let entry =
        |key: &str, value: &str| json!({"Key": key, "Value": value, "Flags": 42, "CreateIndex": 8, "ModifyIndex": 8});
    bench.cluster.answer("KVS.Get", Ok(json!({"Entries": [entry("cf/a", "x")]})));
    bench.cluster.answer("KVS.List", Ok(json!({"Entries": [entry("cf/a", "x"), entry("cf/b", "y")]})));
    bench.cluster.answer("KVS.Apply", Ok(json!(true)));
    let out = |text: &str| (0, text.to_owned(), String::new());
    assert_eq!(command(&bench, &["kv", "get", "cf/a"]).await, out("x\n"));
    assert_eq!(command(&bench, &["kv", "get", "-base64", "cf/a"]).await, out("eA==\n"));
    assert_eq!(command(&bench, &["kv", "get", "-recurse", "cf"]).await, out("cf/a:x\ncf/b:y\n"));
    assert_eq!(
        command(&bench, &["kv", "get", "-detailed", "cf/a"]).await,
        out("CreateIndex      8\nFlags            42\nKey              cf/a\nLockIndex        0\nModifyIndex      8\n\
             Session          -\nValue            x\n")
    );
    assert_eq!(
        command(&bench, &["kv", "put", "-flags=42", "/cf/a", "x"]).await,
        out("Success! Data written to: cf/a\n")
    );
    assert_eq!(bench.cluster.last().1["DirEnt"]["Flags"], 42);
    assert_eq!(command(&bench, &["kv", "delete", "cf/a"]).await, out("Success! Deleted key: cf/a\n"));
    let tree = r#"[{"key":"cf/z","flags":5,"value":"aGk="}]"#;
    assert_eq!(command(&bench, &["kv", "import", tree]).await, out("Imported: cf/z\n"));
    assert_eq!(bench.cluster.last().1["DirEnt"]["Value"], "hi");
    let (code, _, err) = command(&bench, &["force-leave", "zz"]).await;
    let why = "Error force leaving: Unexpected response code: 500 (agent: No node found with name 'zz')\n";
    assert_eq!((code, err.as_str()), (1, why));
    assert_eq!(command(&bench, &["members", "-status=failed"]).await, (2, String::new(), String::new()));
    assert!(command(&bench, &["members"]).await.1.starts_with("Node  Address         Status  Type"));
    assert_eq!(command(&bench, &["join", "a"]).await, out("Successfully joined cluster by contacting 1 nodes.\n"));
    assert_eq!(command(&bench, &["maint", "-enable"]).await, out("Node maintenance is now enabled\n"));
    assert_eq!(command(&bench, &["maint"]).await.0, 0);
    assert!(command(&bench, &["event", "-name=x", "p"]).await.1.starts_with("Event ID: "));
    bench.cluster.answer("Catalog.ListServices", Ok(json!({"Services": {"web": ["b", "a"]}})));
    assert_eq!(command(&bench, &["catalog", "services", "-tags"]).await, out("web  a,b\n"));
}
