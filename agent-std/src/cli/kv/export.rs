//! `kv export`.

use clap::ArgMatches;
use serde::{Deserialize, Serialize};

use super::{Entry, namespace, path};
use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome, too_many},
    flags,
};

pub(crate) const SPEC: Spec = Spec {
    path: "kv export",
    synopsis: "Exports a tree from the KV store as JSON",
    usage: "[KEY_OR_PREFIX]",
    about: "Prints every key below a prefix as JSON that \"{cmd} kv import\" takes back, here or in another cluster.",
    kind: Kind::Leaf { flags: |command| flags::http_and_server(command).arg(namespace()), run },
    ours: false,
};

/// One key in an export. Consul's format: lower case names, value in base64.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Exported {
    pub key: String,
    #[serde(default)]
    pub flags: u64,
    #[serde(default)]
    pub value: String,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let args = flags::values(matches, "args");
    let prefix = match &args[..] {
        [] => "",
        [prefix] => prefix,
        more => return Err(too_many(1, more.len())),
    };
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let entries: Vec<Entry> = client
        .find(&path(prefix), &[("recurse", "")])
        .map_err(|error| format!("Error querying Consul agent: {error}"))?
        .unwrap_or_default();
    let exported: Vec<Exported> = entries
        .into_iter()
        .map(|entry| Exported { key: entry.key, flags: entry.flags, value: entry.value.unwrap_or_default() })
        .collect();
    context.say(&render(&exported).map_err(|error| format!("Error exporting KV data: {error}"))?);
    Ok(())
}

/// Indented by tabs, as Consul does.
fn render(exported: &[Exported]) -> Result<String, serde_json::Error> {
    let mut octets = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    exported.serialize(&mut serde_json::Serializer::with_formatter(&mut octets, formatter))?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuls_layout() {
        let exported = [Exported { key: "cf/a".into(), flags: 42, value: "eA==".into() }];
        let text = "[\n\t{\n\t\t\"key\": \"cf/a\",\n\t\t\"flags\": 42,\n\t\t\"value\": \"eA==\"\n\t}\n]";
        assert_eq!(render(&exported).unwrap(), text);
        assert_eq!(render(&[]).unwrap(), "[]");
    }
}
