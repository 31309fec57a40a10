//! The rules for every command (cli spec §1), and a bench to run commands on.

use std::collections::HashMap;

use super::*;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// Runs a command with empty input and the given environment.
pub(crate) fn run_with(product: Product, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    let env: HashMap<String, String> = env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(
        &mut Context {
            product,
            input: &mut input.as_bytes(),
            out: &mut out,
            err: &mut err,
            env: &|name| env.get(name).cloned(),
        },
        &args,
    );
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// Runs a command as `consul`, with nothing in the environment.
pub(crate) fn consul(args: &[&str]) -> Ran {
    run_with(Product::Consul, args, &[], "")
}

#[test]
fn unknown_and_absent_commands_give_127_and_the_list() {
    for args in [&[][..], &["bogus"], &["bogus", "kv"], &["configtest"]] {
        let ran = consul(args);
        assert_eq!(ran.code, 127, "{args:?}");
        assert!(ran.out.is_empty() && ran.err.starts_with("Usage: consul [--version]"), "{ran:?}");
    }
}

#[test]
fn known_but_missing_commands_are_refused_by_name() {
    let ran = consul(&["lock", "-n=2", "a", "b"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, "\"lock\" is not implemented yet by lictor.\n"));
    for name in MISSING {
        assert!(find(name).is_none(), "{name} exists: take it off the list");
    }
}

#[test]
fn help_goes_to_stdout_with_0() {
    for (args, first) in [
        (&["-h"][..], "Usage: consul [--version] [--help] <command> [<args>]"),
        (&["--help"], "Usage: consul [--version] [--help] <command> [<args>]"),
        (&["kv", "-h"], "Usage: consul kv <subcommand> [options] [args]"),
        (&["members", "-help"], "Usage: consul members [options]"),
        (&["kv", "put", "x", "--help"], "Usage: consul kv put [options] KEY [DATA]"),
    ] {
        let ran = consul(args);
        assert_eq!((ran.code, ran.out.lines().next().unwrap()), (0, first));
        assert!(ran.err.is_empty());
    }
    let ran = run_with(Product::Consul, &["members", "--", "-h"], &[("CONSUL_HTTP_ADDR", "127.0.0.1:1")], "");
    assert_eq!(ran.code, 1, "after -- it is an argument, so the command really runs");
}

#[test]
fn groups_and_wrong_subcommands_show_usage_on_stderr() {
    for args in [&["kv"][..], &["kv", "bogus"], &["catalog"]] {
        let ran = consul(args);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("\nSubcommands:\n") && ran.out.is_empty());
    }
}

#[test]
fn flag_errors_are_followed_by_the_plain_list() {
    let ran = consul(&["members", "-nope"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.starts_with("flag provided but not defined: -nope\nUsage:\n  -ca-file value\n    \t"),
        "{}",
        ran.err
    );
    assert_eq!(consul(&["keygen", "-x"]).err, "flag provided but not defined: -x\nUsage:\n");
}

#[test]
fn flags_before_the_command_are_refused() {
    let ran = consul(&["-zz", "kv"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("Invalid flags before the subcommand. If these flags are for\nthe subcommand, "));
}

#[test]
fn version_wins_anywhere() {
    for args in [&["version"][..], &["-v"], &["--version"], &["kv", "-version", "x"]] {
        assert!(consul(args).out.starts_with("Consul v1.8.7\nProtocol 2 spoken by default, "), "{args:?}");
    }
    assert!(run_with(Product::Lictor, &["-v"], &[], "").out.starts_with(concat!(
        "Lictor v",
        env!("CARGO_PKG_VERSION"),
        "\n"
    )));
}

#[test]
fn connection_failures_read_like_consuls() {
    // Port 1 of loopback: nothing listens there.
    let env = [("CONSUL_HTTP_ADDR", "127.0.0.1:1")];
    let why = "dial tcp 127.0.0.1:1: connect: connection refused\n";
    for (args, text) in [
        (&["kv", "get", "x"][..], "Error querying Consul agent: Get \"http://127.0.0.1:1/v1/kv/x\": "),
        (&["members"], "Error retrieving members: Get \"http://127.0.0.1:1/v1/agent/members?segment=_all\": "),
        (&["info"], "Error querying agent: Get \"http://127.0.0.1:1/v1/agent/self\": "),
        (&["leave"], "Error leaving: Put \"http://127.0.0.1:1/v1/agent/leave\": "),
        (&["force-leave", "x"], "Error force leaving: Put \"http://127.0.0.1:1/v1/agent/force-leave/x\": "),
        (&["catalog", "nodes"], "Error listing nodes: Get \"http://127.0.0.1:1/v1/catalog/nodes\": "),
        (&["catalog", "services"], "Error listing services: Get \"http://127.0.0.1:1/v1/catalog/services\": "),
        (&["catalog", "datacenters"], "Error listing datacenters: Get \"http://127.0.0.1:1/v1/catalog/datacenters\": "),
        (&["kv", "put", "a", "b"], "Error! Failed writing data: Put \"http://127.0.0.1:1/v1/kv/a\": "),
        (&["kv", "delete", "a"], "Error deleting key a: Delete \"http://127.0.0.1:1/v1/kv/a\": "),
        (&["kv", "delete", "-recurse", "a"], {
            "Error! Did not delete prefix a: Delete \"http://127.0.0.1:1/v1/kv/a?recurse=\": "
        }),
        (&["kv", "get", "-keys", "a"], {
            "Error querying Consul agent: Get \"http://127.0.0.1:1/v1/kv/a?keys=&separator=%2F\": "
        }),
        (&["kv", "export", "-stale", "a"], {
            "Error querying Consul agent: Get \"http://127.0.0.1:1/v1/kv/a?recurse=&stale=\": "
        }),
        (&["reload"], "Error reloading: Put \"http://127.0.0.1:1/v1/agent/reload\": "),
    ] {
        let ran = run_with(Product::Consul, args, &env, "");
        assert_eq!((ran.code, ran.err), (1, format!("{text}{why}")), "{args:?}");
    }
    let ran = run_with(Product::Consul, &["join", "x"], &env, "");
    let text = "Error joining address 'x': Put \"http://127.0.0.1:1/v1/agent/join/x\": ";
    assert_eq!((ran.code, ran.err), (1, format!("{text}{why}Failed to join any nodes.\n")));
}

#[test]
fn every_command_describes_itself_soundly() {
    for spec in commands() {
        let command = spec.command();
        command.clone().debug_assert();
        assert!(!spec.synopsis.is_empty(), "{}", spec.path);
        for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
            assert_eq!(flag.get_long(), Some(flag.get_id().as_str()), "{}", spec.path);
            assert!(flag.get_help().is_some() && flag.get_help_heading().is_some(), "{} {}", spec.path, flag.get_id());
        }
        let text = usage::of(Product::Consul, spec);
        assert!(!text.contains("{cmd}") && !text.contains("{Name}"), "{}", spec.path);
    }
}
