//! `kv import`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::ArgMatches;

use super::{data, export::Exported, namespace, path};
use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome, single},
    flags,
};

pub(crate) const SPEC: Spec = Spec {
    path: "kv import",
    synopsis: "Imports a tree stored as JSON to the KV store",
    usage: "[DATA]",
    about: "Writes the keys of an export. DATA is the JSON itself, @file, or - for standard input.\n\n\
            $ {cmd} kv import @tree.json",
    kind: Kind::Leaf { flags: |command| flags::http_and_server(command).arg(namespace()), run },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let argument = single(&flags::values(matches, "args"), "Error! Missing DATA argument")?;
    let text = data(context, &argument).map_err(|error| format!("Error! {error}"))?;
    if text.is_empty() {
        return Err("Error! Empty data argument. Give JSON, @file, or - for standard input".into());
    }
    let entries: Vec<Exported> = serde_json::from_slice(&text).map_err(|error| {
        let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        format!("Cannot unmarshal data: {why}")
    })?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    for entry in entries {
        let value = STANDARD
            .decode(&entry.value)
            .map_err(|error| format!("Error base 64 decoding value for key {}: {error}", entry.key))?;
        let flag_number = entry.flags.to_string();
        let query: &[(&str, &str)] = if entry.flags == 0 { &[] } else { &[("flags", &flag_number)] };
        client
            .put(&path(&entry.key), query, value)
            .map_err(|error| format!("Error! Failed writing data for key {}: {error}", entry.key))?;
        context.say(&format!("Imported: {}", entry.key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::{
        product::Product,
        tests::{consul, run_with},
    };

    #[test]
    fn refusals() {
        for (args, text) in [
            (&["kv", "import"][..], "Error! Missing DATA argument\n"),
            (&["kv", "import", "[{"], "Cannot unmarshal data: unexpected end of JSON input\n"),
            (&["kv", "import", "@/no"], "Error! Failed to read file: open /no: no such file or directory\n"),
        ] {
            assert_eq!((consul(args).code, consul(args).err.as_str()), (1, text));
        }
        assert_eq!(consul(&["kv", "import", "[]"]).code, 0, "nothing to write, nobody to ask");
        assert_eq!(run_with(Product::Consul, &["kv", "import", "-"], &[], "[]").code, 0);
    }
}
