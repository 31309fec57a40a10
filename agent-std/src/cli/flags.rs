//! Building blocks for flags, and the groups that many commands share (cli spec §1: groups H and S).

use clap::{Arg, ArgAction, ArgMatches, Command, builder::BoolishValueParser};

/// Heading of flags that talk to an agent.
pub const HTTP: &str = "HTTP API Options";
/// Heading of a command's own flags.
pub const OWN: &str = "Command Options";

/// A boolean: `-name` or `-name=false`.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .help_heading(OWN)
        .action(ArgAction::Set)
        .overrides_with(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(BoolishValueParser::new())
}

/// A flag with a value; `kind` is what usage texts show, and [`UINT`](super::goflags::UINT) makes it a number.
pub fn text(name: &'static str, kind: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .help_heading(OWN)
        .value_name(kind)
        .action(ArgAction::Set)
        .overrides_with(name)
        .num_args(1)
}

/// A flag that may be given several times.
pub fn list(name: &'static str, kind: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).help_heading(OWN).value_name(kind).action(ArgAction::Append).num_args(1)
}

/// Marks a flag that Consul does not have: hidden when we stand in for it.
pub fn ours(flag: Arg) -> Arg {
    flag.hide_short_help(true)
}

/// Our `-format` flag for commands whose answer is data.
pub fn format() -> Arg {
    ours(text("format", "pretty|json", "Output format: pretty (default) or json."))
}

/// The plain arguments after the flags.
pub fn arguments() -> Arg {
    Arg::new("args").num_args(0..).action(ArgAction::Append).trailing_var_arg(true).allow_hyphen_values(true)
}

/// Group H: how to reach the agent.
pub fn http(command: Command) -> Command {
    let flags = [
        text("ca-file", "value", "CA certificate file for HTTPS. Environment: CONSUL_CACERT."),
        text("ca-path", "value", "Directory of CA certificates for HTTPS. Environment: CONSUL_CAPATH."),
        text("client-cert", "value", "Client certificate file for HTTPS. Environment: CONSUL_CLIENT_CERT."),
        text("client-key", "value", "Client key file for HTTPS. Environment: CONSUL_CLIENT_KEY."),
        text(
            "http-addr",
            "address",
            "Address and port of the agent's HTTP API, also as http:// or unix://. Environment: CONSUL_HTTP_ADDR. \
             The default is http://127.0.0.1:8500.",
        ),
        text("tls-server-name", "value", "Server name expected over HTTPS. Environment: CONSUL_TLS_SERVER_NAME."),
        text(
            "token",
            "value",
            "ACL token to send. Environment: CONSUL_HTTP_TOKEN. The default is the agent's own token.",
        ),
        text("token-file", "value", "File that holds the ACL token. Environment: CONSUL_HTTP_TOKEN_FILE."),
    ];
    command.args(flags.map(|flag| flag.help_heading(HTTP)))
}

/// Groups H and S: how to reach the agent, and which servers may answer.
pub fn http_and_server(command: Command) -> Command {
    http(command)
        .arg(text("datacenter", "value", "Datacenter to ask; the agent's own by default.").help_heading(HTTP))
        .arg(switch("stale", "Let any server answer, not only the leader: faster, maybe old.").help_heading(HTTP))
}

/// True when switch `name` was given and is on.
pub fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or(false)
}

/// The value of flag `name`, if it was given.
pub fn value<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

/// All values of a repeatable flag, or of the plain arguments (`args`).
pub fn values(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).map(|values| values.cloned().collect()).unwrap_or_default()
}

/// The value of a numeric flag; goflags has made it decimal already.
pub fn number(matches: &ArgMatches, name: &str) -> Option<u64> {
    value(matches, name).and_then(|digits| digits.parse().ok())
}
