//! `kv put`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::ArgMatches;

use super::{data, modify_index, namespace, path};
use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags, goflags,
};

pub(crate) const SPEC: Spec = Spec {
    path: "kv put",
    synopsis: "Sets or updates data in the KV store",
    usage: "[options] KEY [DATA]",
    about: "Writes a key. DATA is the value itself, @file for a file's content, or - for standard input; without DATA the \
            value is empty.\n\n$ {cmd} kv put -cas -modify-index=844 config/port 5",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::switch("acquire", "Lock the key for -session while writing."),
                flags::switch("base64", "DATA is base64: decode it first."),
                flags::switch("cas", "Write only if the key still has -modify-index."),
                flags::text("flags", goflags::UINT, "Number to keep with the key, for your own use. The default is 0."),
                modify_index(),
                namespace(),
                flags::switch("release", "Unlock the key that -session holds while writing."),
                flags::text("session", "string", "Session for -acquire and -release."),
            ])
        },
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let args = flags::values(matches, "args");
    let (key, value) = match &args[..] {
        [] => return Err("Error! Missing KEY argument".into()),
        [key] => (key, ""),
        [key, value] => (key, value.as_str()),
        more => return Err(format!("Error! Too many arguments (expected 1 or 2, got {})", more.len()).into()),
    };
    let key = key.strip_prefix('/').unwrap_or(key);
    let mut value = data(context, value).map_err(|error| format!("Error! {error}"))?;
    if flags::is_on(matches, "base64") {
        match STANDARD.decode(&value) {
            Ok(octets) => value = octets,
            Err(error) => {
                // Consul goes on with exit code 0 here, after writing an empty value (seen in 1.8.7).
                context.complain(&format!("Error! Cannot base 64 decode data: {}", bad_base64(&error, &value)));
                value = Vec::new();
            }
        }
    }
    let (cas, acquire, release) =
        (flags::is_on(matches, "cas"), flags::is_on(matches, "acquire"), flags::is_on(matches, "release"));
    let session = flags::value(matches, "session").unwrap_or_default();
    let modify_index = flags::number(matches, "modify-index");
    // Zero, which would mean "create only", cannot be asked for here (seen in 1.8.7).
    if cas && modify_index.unwrap_or(0) == 0 {
        return Err("Must specify -modify-index with -cas!".into());
    }
    if (acquire || release) && session.is_empty() {
        return Err("Error! Missing -session (required with -acquire and -release)".into());
    }
    let flag_number = flags::number(matches, "flags").unwrap_or(0).to_string();
    let index = modify_index.unwrap_or(0).to_string();
    let mut query: Vec<(&str, &str)> = Vec::new();
    if flag_number != "0" {
        query.push(("flags", &flag_number));
    }
    let (done, refused) = match (cas, acquire, release) {
        (true, ..) => {
            query.push(("cas", &index));
            ("Success! Data written to", format!("Error! Did not write to {key}: CAS failed"))
        }
        (_, true, _) => {
            query.push(("acquire", session));
            ("Success! Lock acquired on", "Error! Did not acquire lock".to_owned())
        }
        (.., true) => {
            query.push(("release", session));
            ("Success! Lock released on", "Error! Did not release lock".to_owned())
        }
        _ => ("Success! Data written to", format!("Error! Did not write to {key}")),
    };
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let doing = match (cas, acquire, release) {
        (true, ..) => format!("Error! Did not write to {key}"),
        (_, true, _) | (.., true) => "Error! Failed writing data".to_owned(),
        _ => "Error! Failed writing data".to_owned(),
    };
    let answer = client.put(&path(key), &query, value).map_err(|error| format!("{doing}: {error}"))?;
    if !answer.starts_with(b"true") {
        return Err(refused.into());
    }
    context.say(&format!("{done}: {key}"));
    Ok(())
}

/// Go counts the octets up to the first bad one.
fn bad_base64(error: &base64::DecodeError, value: &[u8]) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) => *at,
        _ => value.len(),
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn refusals() {
        for (args, text) in [
            (&["kv", "put"][..], "Error! Missing KEY argument\n"),
            (&["kv", "put", "k", "v", "x"], "Error! Too many arguments (expected 1 or 2, got 3)\n"),
            (&["kv", "put", "-cas", "k", "v"], "Must specify -modify-index with -cas!\n"),
            (&["kv", "put", "-cas", "-modify-index=0", "k"], "Must specify -modify-index with -cas!\n"),
            (&["kv", "put", "-acquire", "k"], "Error! Missing -session (required with -acquire and -release)\n"),
            (&["kv", "put", "-release", "k"], "Error! Missing -session (required with -acquire and -release)\n"),
            (
                &["kv", "put", "k", "@/no/file"],
                "Error! Failed to read file: open /no/file: no such file or directory\n",
            ),
        ] {
            assert_eq!((consul(args).code, consul(args).err.as_str()), (1, text));
        }
        assert!(
            consul(&["kv", "put", "-flags=zz", "k"])
                .err
                .starts_with("invalid value \"zz\" for flag -flags: parse error\n")
        );
    }
}
