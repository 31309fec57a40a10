//! `version`, `-v`, `--version`.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    context::{Context, Outcome},
    flags,
};

pub(super) const SPEC: Spec = Spec {
    path: "version",
    synopsis: "Prints the {Name} version",
    usage: "[options]",
    about: "",
    kind: Kind::Leaf {
        flags: |command| command.arg(flags::text("format", "string", "Output format {pretty|json}")),
        run,
    },
    ours: false,
};

/// Consul's LAN protocol: spoken by default, oldest and newest understood.
const PROTOCOL: (u8, u8, u8) = (2, 2, 3);

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let (default, min, max) = PROTOCOL;
    match flags::value(matches, "format") {
        None | Some("pretty") => print(context),
        Some("json") => {
            let version = context.product.version();
            // Consul's order and three blanks.
            context.say(&format!(
                "{{\n   \"Version\": \"{version}\",\n   \"Revision\": \"\",\n   \"Prerelease\": \"\",\n   \"RPC\": {{\n      \
                 \"Default\": {default},\n      \"Min\": {min},\n      \"Max\": {max}\n   }}\n}}"
            ));
            Ok(())
        }
        Some(other) => Err(format!("Unknown format: {other}").into()),
    }
}

/// The text form.
pub(super) fn print(context: &mut Context<'_>) -> Outcome {
    let (default, min, max) = PROTOCOL;
    let product = context.product;
    context.say(&format!("{} v{}", product.name(), product.version()));
    context.say(&format!(
        "Protocol {default} spoken by default, understands {min} to {max} \
         (agent will automatically use protocol >{default} when speaking to compatible agents)\n"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn formats() {
        let text = consul(&["version", "-format=pretty"]).out;
        assert!(text.ends_with("compatible agents)\n\n"));
        let value: serde_json::Value = serde_json::from_str(&consul(&["version", "-format=json"]).out).unwrap();
        assert_eq!((&value["Version"], &value["RPC"]["Max"]), (&"1.8.7".into(), &3.into()));
        let bad = consul(&["version", "-format=xx"]);
        assert_eq!((bad.code, bad.err.as_str()), (1, "Unknown format: xx\n"));
    }
}
