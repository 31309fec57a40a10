//! `kv get`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::ArgMatches;

use super::{Entry, namespace, path};
use crate::cli::{
    Kind, Spec,
    client::{Client, ClientError},
    context::{Context, Outcome, too_many},
    flags,
};

pub(crate) const SPEC: Spec = Spec {
    path: "kv get",
    synopsis: "Retrieves or lists data from the KV store",
    usage: "[options] [KEY_OR_PREFIX]",
    about: "Prints the value of a key, everything below a prefix (-recurse), or only the keys there (-keys).\n\n\
            $ {cmd} kv get -recurse config/",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::switch("base64", "Print values in base64."),
                flags::switch("detailed", "Print everything known about the key."),
                flags::switch("keys", "List keys that begin with the prefix, without values."),
                namespace(),
                flags::switch("recurse", "Print all keys that begin with the prefix."),
                flags::text(
                    "separator",
                    "string",
                    "Where -keys cuts keys, so that folders show once. The default is /.",
                ),
            ])
        },
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let args = flags::values(matches, "args");
    let (keys, recurse) = (flags::is_on(matches, "keys"), flags::is_on(matches, "recurse"));
    let key = match &args[..] {
        [] if keys || recurse => "",
        [] => return Err("Error! Missing KEY argument".into()),
        [key] if !key.is_empty() || keys || recurse => key,
        [_] => return Err("Error! Missing KEY argument".into()),
        more => return Err(too_many(1, more.len())),
    };
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let failed = |error: ClientError| format!("Error querying Consul agent: {error}");
    if keys {
        let separator = flags::value(matches, "separator").unwrap_or("/");
        let found: Option<Vec<String>> =
            client.find(&path(key), &[("keys", ""), ("separator", separator)]).map_err(failed)?;
        for name in found.unwrap_or_default() {
            context.say(&name);
        }
        return Ok(());
    }
    let query: &[(&str, &str)] = if recurse { &[("recurse", "")] } else { &[] };
    let entries: Vec<Entry> = client.find(&path(key), query).map_err(failed)?.unwrap_or_default();
    if !recurse && entries.is_empty() {
        return Err(format!("Error! No key exists at: {}", key.strip_prefix('/').unwrap_or(key)).into());
    }
    let base64 = flags::is_on(matches, "base64");
    for (index, entry) in entries.iter().enumerate() {
        let value = if base64 { STANDARD.encode(entry.octets()?).into_bytes() } else { entry.octets()? };
        if flags::is_on(matches, "detailed") {
            if index > 0 {
                context.say("");
            }
            detailed(context, entry, &value);
            continue;
        }
        if recurse {
            let _ = write!(context.out, "{}:", entry.key);
        }
        let _ = context.out.write_all(&value);
        context.say("");
    }
    Ok(())
}

/// Seven lines, values in one column. The value's octets go out as they are.
fn detailed(context: &mut Context<'_>, entry: &Entry, value: &[u8]) {
    let session = if entry.session.is_empty() { "-" } else { &entry.session };
    for (name, text) in [
        ("CreateIndex", entry.create_index.to_string()),
        ("Flags", entry.flags.to_string()),
        ("Key", entry.key.clone()),
        ("LockIndex", entry.lock_index.to_string()),
        ("ModifyIndex", entry.modify_index.to_string()),
        ("Session", session.to_owned()),
    ] {
        context.say(&format!("{name:16} {text}"));
    }
    if value.is_empty() {
        return context.say("Value");
    }
    let _ = write!(context.out, "{:16} ", "Value");
    let _ = context.out.write_all(value);
    context.say("");
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn arguments() {
        for (args, text) in [
            (&["kv", "get"][..], "Error! Missing KEY argument\n"),
            (&["kv", "get", ""], "Error! Missing KEY argument\n"),
            (&["kv", "get", "a", "b"], "Too many arguments (expected 1, got 2)\n"),
        ] {
            assert_eq!((consul(args).code, consul(args).err.as_str()), (1, text));
        }
    }
}
