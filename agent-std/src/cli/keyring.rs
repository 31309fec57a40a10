//! `keyring`: the gossip keys of all members.

use std::collections::BTreeMap;

use clap::ArgMatches;
use serde::Deserialize;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags,
};

const PATH: &str = "/v1/operator/keyring";

pub(super) const SPEC: Spec = Spec {
    path: "keyring",
    synopsis: "Manages gossip layer encryption keys",
    usage: "[options]",
    about: "Lists, installs, selects and removes gossip keys on all members. To rotate: install the new key, use it, then \
            remove the old one. Needs a server to talk to.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http(command).args([
                flags::text("install", "string", "Install this key on every member; it only decrypts."),
                flags::text("use", "string", "Encrypt with this installed key."),
                flags::text("remove", "string", "Remove this key, which must not be the primary."),
                flags::switch("list", "List the keys and how many members have them."),
                flags::switch("list-primary", "List the keys that members encrypt with."),
                flags::switch("local-only", "Only ask this datacenter. For lists only."),
                flags::text("relay-factor", "int", "Members that relay each answer, 0 to 5."),
            ])
        },
        run,
    },
    ours: false,
};

/// A pool's part of the list.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Pool {
    #[serde(rename = "WAN")]
    wan: bool,
    datacenter: String,
    messages: BTreeMap<String, String>,
    keys: BTreeMap<String, usize>,
    primary_keys: BTreeMap<String, usize>,
    num_nodes: usize,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let given = |name| flags::value(matches, name).filter(|key| !key.is_empty());
    let changes = ["install", "use", "remove"].map(|name| given(name).map(|key| (name, key)));
    let changes: Vec<(&str, &str)> = changes.into_iter().flatten().collect();
    let (list, primary) = (flags::is_on(matches, "list"), flags::is_on(matches, "list-primary"));
    match changes.len() + usize::from(list) + usize::from(primary) {
        1 => {}
        0 => {
            return Err(Failure::Usage("One of -install, -list, -list-primary, -remove or -use is needed.".to_owned()));
        }
        _ => return Err("Only a single action is allowed".into()),
    }
    let relay = given("relay-factor").unwrap_or("0");
    if !relay.parse::<u8>().is_ok_and(|factor| factor <= 5) {
        return Err("Error parsing relay factor: Relay factor must be in range: [0, 5]".into());
    }
    if flags::is_on(matches, "local-only") && !changes.is_empty() {
        return Err("Error parsing local-only: -local-only is for lists".into());
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let mut query = vec![("relay-factor", relay)];
    if flags::is_on(matches, "local-only") {
        query.push(("local-only", "true"));
    }
    let failed = |error: super::client::ClientError| Failure::from(format!("error: {error}"));
    if let [(action, key)] = changes[..] {
        let body = serde_json::json!({ "Key": key }).to_string();
        let (says, method) = match action {
            "install" => ("Installing new gossip encryption key...", hyper::Method::POST),
            "use" => ("Changing primary gossip encryption key...", hyper::Method::PUT),
            _ => ("Removing gossip encryption key...", hyper::Method::DELETE),
        };
        context.say(&format!("==> {says}"));
        client.ask(method, PATH, &query, body).map_err(failed)?;
        return Ok(());
    }
    let says = if primary {
        "Gathering installed primary encryption keys..."
    } else {
        "Gathering installed encryption keys..."
    };
    context.say(&format!("==> {says}"));
    let pools: Vec<Pool> = client.get(PATH, &query).map_err(failed)?;
    for pool in pools {
        context.say(&shown(&pool, primary));
    }
    Ok(())
}

fn shown(pool: &Pool, primary: bool) -> String {
    let name = if pool.wan { "WAN".to_owned() } else { format!("{} (LAN)", pool.datacenter) };
    let messages = pool.messages.iter().map(|(node, message)| format!("\n  {node}: {message}"));
    let keys = if primary { &pool.primary_keys } else { &pool.keys };
    let keys = keys.iter().map(|(key, count)| format!("\n  {key} [{count}/{}]", pool.num_nodes));
    format!("\n{name}:{}", messages.chain(keys).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    #[test]
    fn exactly_one_action() {
        assert!(consul(&["keyring"]).err.contains("Usage: consul keyring"));
        assert_eq!(consul(&["keyring", "-list", "-use=x"]).err, "Only a single action is allowed\n");
        let ran = consul(&["keyring", "-list", "-relay-factor=6"]);
        assert_eq!(ran.err, "Error parsing relay factor: Relay factor must be in range: [0, 5]\n");
    }

    #[test]
    fn a_list_as_consul_prints_it() {
        let pool = Pool {
            datacenter: "dc1".into(),
            keys: [("a=".to_owned(), 2), ("b=".to_owned(), 3)].into(),
            num_nodes: 3,
            ..Pool::default()
        };
        assert_eq!(shown(&pool, false), "\ndc1 (LAN):\n  a= [2/3]\n  b= [3/3]");
        assert_eq!(shown(&Pool { wan: true, ..pool }, true), "\nWAN:");
    }
}
