//! `kv delete`.

use clap::ArgMatches;

use super::{modify_index, namespace, path};
use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome, single},
    flags,
};

pub(crate) const SPEC: Spec = Spec {
    path: "kv delete",
    synopsis: "Removes data from the KV store",
    usage: "[options] KEY_OR_PREFIX",
    about: "Deletes a key, or with -recurse every key that begins with a prefix. A key that is not there is no error.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::switch("cas", "Delete only if the key still has -modify-index."),
                modify_index(),
                namespace(),
                flags::switch("recurse", "Delete every key that begins with the prefix."),
            ])
        },
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let (cas, recurse) = (flags::is_on(matches, "cas"), flags::is_on(matches, "recurse"));
    let key = single(&flags::values(matches, "args"), "Error! Missing KEY argument")?;
    let key = key.strip_prefix('/').unwrap_or(&key);
    if key.is_empty() && !recurse {
        return Err("Error! Missing KEY argument".into());
    }
    if cas && recurse {
        return Err("Cannot specify both -cas and -recurse!".into());
    }
    let index = flags::number(matches, "modify-index").unwrap_or(0);
    if cas && index == 0 {
        return Err("Must specify -modify-index with -cas!".into());
    }
    let index = index.to_string();
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    if recurse {
        client
            .delete(&path(key), &[("recurse", "")])
            .map_err(|error| format!("Error! Did not delete prefix {key}: {error}"))?;
        context.say(&format!("Success! Deleted keys with prefix: {key}"));
        return Ok(());
    }
    let query: &[(&str, &str)] = if cas { &[("cas", &index)] } else { &[] };
    let doing = if cas { "Error! Did not delete key" } else { "Error deleting key" };
    let answer = client.delete(&path(key), query).map_err(|error| format!("{doing} {key}: {error}"))?;
    if cas && !answer.starts_with(b"true") {
        return Err(format!("Error! Did not delete key {key}: CAS failed").into());
    }
    context.say(&format!("Success! Deleted key: {key}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn refusals() {
        for (args, text) in [
            (&["kv", "delete"][..], "Error! Missing KEY argument\n"),
            (&["kv", "delete", "a", "b"], "Too many arguments (expected 1, got 2)\n"),
            (&["kv", "delete", "-cas", "a"], "Must specify -modify-index with -cas!\n"),
            (&["kv", "delete", "-cas", "-modify-index=0", "a"], "Must specify -modify-index with -cas!\n"),
            (&["kv", "delete", "-cas", "-modify-index=3", "-recurse", "a"], "Cannot specify both -cas and -recurse!\n"),
        ] {
            assert_eq!((consul(args).code, consul(args).err.as_str()), (1, text));
        }
    }
}
