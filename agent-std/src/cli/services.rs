//! `services`: register and deregister with the agent, from flags or from files.

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags, goflags,
};
use crate::{config::load, http::url};

pub(super) const GROUP: Spec = Spec {
    path: "services",
    synopsis: "Interact with services",
    usage: "<subcommand> [options] [args]",
    about: "Registers and deregisters services with the agent.",
    kind: Kind::Group,
    ours: false,
};

pub(super) const REGISTER: Spec = Spec {
    path: "services register",
    synopsis: "Register services with the local agent",
    usage: "[options] [FILE...]",
    about: "Registers the services of configuration files, or one described by flags.\n\n\
            $ {cmd} services register web.json",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::text("address", "string", "Address of the service; the node's by default."),
                flags::text("id", "string", "Id of the service; its name by default."),
                flags::text("kind", "string", "Kind of the service."),
                flags::list("meta", "value", "Metadata, key=value. May be given several times."),
                flags::text("name", "string", "Name of the service."),
                flags::text("namespace", "default", "Namespaces exist in Consul Enterprise only."),
                flags::text("port", goflags::INT, "Port of the service."),
                flags::list("tag", "value", "A tag. May be given several times."),
                flags::list("tagged-address", "value", "Named address, name=address:port. May be given several times."),
            ])
        },
        run: register,
    },
    ours: false,
};

pub(super) const DEREGISTER: Spec = Spec {
    path: "services deregister",
    synopsis: "Deregister services with the local agent",
    usage: "[options] [FILE...]",
    about: "Deregisters the services of configuration files, or one by its id.\n\n$ {cmd} services deregister -id=web",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::text("id", "string", "Id of the service; not together with files."),
                flags::text("namespace", "default", "Namespaces exist in Consul Enterprise only."),
            ])
        },
        run: deregister,
    },
    ours: false,
};

fn register(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let files = flags::values(matches, "args");
    let name = flags::value(matches, "name").unwrap_or_default();
    let services = match (files.is_empty(), name.is_empty()) {
        (true, true) => return Err("Service registration requires at least one argument or flags.".into()),
        (false, false) => return Err("Service registration requires arguments or -id, not both.".into()),
        (true, false) => vec![from_flags(matches, name)?],
        (false, true) => from_files(&files)?,
    };
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    for service in services {
        let name = service["name"].as_str().unwrap_or_default();
        client
            .put("/v1/agent/service/register", &[], service.to_string())
            .map_err(|error| format!("Error registering service {name:?}: {error}"))?;
        context.say(&format!("Registered service: {name}"));
    }
    Ok(())
}

fn deregister(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let files = flags::values(matches, "args");
    let id = flags::value(matches, "id").unwrap_or_default();
    let ids = match (files.is_empty(), id.is_empty()) {
        (true, true) => return Err("Service deregistration requires at least one argument or -id.".into()),
        (false, false) => return Err("Service deregistration requires arguments or -id, not both.".into()),
        (true, false) => vec![id.to_owned()],
        (false, true) => {
            let text = |service: &Value, key: &str| service[key].as_str().unwrap_or_default().to_owned();
            let id = |service: &Value| match text(service, "id") {
                id if id.is_empty() => text(service, "name"),
                id => id,
            };
            from_files(&files)?.iter().map(id).collect()
        }
    };
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    for id in ids {
        client
            .put(&format!("/v1/agent/service/deregister/{}", url::escape_path(&id)), &[], "")
            .map_err(|error| format!("Error deregistering service {id:?}: {error}"))?;
        context.say(&format!("Deregistered service: {id}"));
    }
    Ok(())
}

fn from_flags(matches: &ArgMatches, name: &str) -> Result<Value, String> {
    let text = |flag: &str| flags::value(matches, flag).unwrap_or_default();
    let mut service = json!({
        "name": name, "id": text("id"), "address": text("address"), "tags": flags::values(matches, "tag"),
        "port": text("port").parse::<i64>().unwrap_or(0), "meta": pairs(matches, "meta")?,
    });
    if !text("kind").is_empty() {
        service["kind"] = text("kind").into();
    }
    let mut tagged = Map::new();
    for (tag, address) in pairs(matches, "tagged-address")? {
        let address = address.as_str().unwrap_or_default();
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        let port: u16 = port.parse().map_err(|_| format!("Error parsing tagged address {tag:?}: port {port:?}"))?;
        tagged.insert(tag, json!({"address": host, "port": port}));
    }
    if !tagged.is_empty() {
        service["tagged_addresses"] = Value::Object(tagged);
    }
    Ok(service)
}

fn pairs(matches: &ArgMatches, flag: &str) -> Result<Map<String, Value>, String> {
    let pair = |text: String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), Value::from(value))),
        None => Err(format!("invalid value {text:?} for flag -{flag}: Missing \"=\" value in argument: {text}")),
    };
    flags::values(matches, flag).into_iter().map(pair).collect()
}

/// The definitions in `files`: of each its list, then its single one, as Consul orders them.
fn from_files(files: &[String]) -> Result<Vec<Value>, String> {
    let mut services = Vec::new();
    for file in files {
        let text = std::fs::read(file).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            format!("Error: config: Open failed on {file}. open {file}: {why}")
        })?;
        let mut value = load::parse(&text).map_err(|why| format!("Error: failed to parse {file}: {why}"))?;
        if let Some(Value::Array(list)) = value.get_mut("services").map(Value::take) {
            services.extend(list);
        }
        if let Some(one) = value.get_mut("service").map(Value::take) {
            services.push(one);
        }
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    #[test]
    fn refusals() {
        for (args, text) in [
            (&["services", "register"][..], "Service registration requires at least one argument or flags.\n"),
            (&["services", "register", "-id=x"], "Service registration requires at least one argument or flags.\n"),
            (
                &["services", "register", "-name=a", "x.json"],
                "Service registration requires arguments or -id, not both.\n",
            ),
            (&["services", "deregister"], "Service deregistration requires at least one argument or -id.\n"),
            (
                &["services", "deregister", "-id=a", "x"],
                "Service deregistration requires arguments or -id, not both.\n",
            ),
            (&["services", "register", "/no.json"], {
                "Error: config: Open failed on /no.json. open /no.json: no such file or directory\n"
            }),
            (&["services", "register", "-name=x", "-meta=a"], {
                "invalid value \"a\" for flag -meta: Missing \"=\" value in argument: a\n"
            }),
        ] {
            assert_eq!((consul(args).code, consul(args).err.as_str()), (1, text));
        }
    }

    #[test]
    fn flags_describe_a_service() {
        let line = [
            "register",
            "--name=web",
            "--tag=a",
            "--tag=b",
            "--port=80",
            "--meta=k=v",
            "--tagged-address=lan=1.2.3.4:80",
        ];
        let matches = REGISTER.command().try_get_matches_from(line).unwrap();
        assert_eq!(
            from_flags(&matches, "web").unwrap(),
            json!({
                "name": "web", "id": "", "address": "", "tags": ["a", "b"], "port": 80, "meta": {"k": "v"},
                "tagged_addresses": {"lan": {"address": "1.2.3.4", "port": 80}},
            })
        );
    }
}
