//! `validate`: check configuration files without starting anything.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    context::{Context, Outcome},
    flags,
};
use crate::config::{
    Config,
    load::{self, Sources},
};

pub(super) const SPEC: Spec = Spec {
    path: "validate",
    synopsis: "Validate config files/directories",
    usage: "[options] FILE_OR_DIRECTORY...",
    about: "Reads configuration files as the agent would, merged, and says what is wrong. Give the complete set: data_dir \
            must be among the settings.",
    kind: Kind::Leaf {
        flags: |command| {
            command.args([
                flags::text("config-format", "string", "Format of all files, whatever their suffix: hcl or json."),
                flags::switch("quiet", "Say nothing when all is well."),
            ])
        },
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let format = flags::value(matches, "config-format").map(str::to_owned);
    if format.as_deref().is_some_and(|format| !matches!(format, "" | "hcl" | "json")) {
        return Err("-config-format must be either 'hcl' or 'json".into());
    }
    let paths: Vec<_> = flags::values(matches, "args").into_iter().map(Into::into).collect();
    if paths.is_empty() {
        return Err("Must specify at least one config file or directory".into());
    }
    let failed = |why: String| format!("Config validation failed: {why}");
    let loaded = load::load(&Sources { paths, format, ..Sources::default() }).map_err(failed)?;
    for warning in &loaded.warnings {
        context.complain(warning);
    }
    let config = Config::resolve(loaded.low, false).map_err(failed)?;
    for warning in &config.warnings {
        context.complain(warning);
    }
    if !flags::is_on(matches, "quiet") {
        context.say("Configuration is valid!");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn verdicts() {
        let path = std::env::temp_dir().join(format!("lictor-validate-{}.json", std::process::id()));
        let validate = |text: &str, flags: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let mut args = vec!["validate"];
            args.extend(flags);
            args.push(path.to_str().unwrap());
            consul(&args)
        };
        let good = r#"{"data_dir": "/nonexistent", "bind_addr": "127.0.0.1", "node_name": "n"}"#;
        let ran = validate(good, &[]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "Configuration is valid!\n", ""));
        assert_eq!(validate(good, &["-quiet"]).out, "");
        let ran = validate(r#"{"bind_addr": "127.0.0.1"}"#, &[]);
        assert_eq!((ran.code, ran.err.as_str()), (1, "Config validation failed: data_dir cannot be empty\n"));
        let ran = validate("{nope", &[]);
        assert!(ran.err.starts_with(&format!("Config validation failed: failed to parse {}: ", path.display())));
        std::fs::remove_file(&path).unwrap();
        let ran = consul(&["validate"]);
        assert_eq!((ran.code, ran.err.as_str()), (1, "Must specify at least one config file or directory\n"));
        assert_eq!(
            consul(&["validate", "-config-format=xx", "a"]).err,
            "-config-format must be either 'hcl' or 'json\n"
        );
    }
}
