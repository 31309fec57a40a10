//! `members`: who is in the pool.

use clap::ArgMatches;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags,
    table::{columns, row},
};

pub(super) const SPEC: Spec = Spec {
    path: "members",
    synopsis: "Lists the members of a {Name} cluster",
    usage: "[options]",
    about: "Shows the members of the pool as the agent sees them.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http(command).args([
                flags::switch("detailed", "Show every tag of the members."),
                flags::text("segment", "string", "Only members of this network segment (Consul Enterprise)."),
                flags::text("status", "string", "Only members whose status matches this regular expression."),
                flags::switch("wan", "Show the servers of the WAN pool instead; asks a server."),
                flags::format(),
            ])
        },
        run,
    },
    ours: false,
};

/// One entry of `/v1/agent/members`, as far as the table needs it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    addr: String,
    port: u16,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    status: u8,
    /// What is wrong with it; only our agents say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    trouble: String,
}

impl Member {
    fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    fn address(&self) -> String {
        if self.addr.contains(':') {
            format!("[{}]:{}", self.addr, self.port)
        } else {
            format!("{}:{}", self.addr, self.port)
        }
    }

    /// serf's words for the API's numbers.
    fn status(&self) -> &'static str {
        ["none", "alive", "leaving", "left", "failed"].get(usize::from(self.status)).copied().unwrap_or("unknown")
    }
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let pattern = flags::value(matches, "status").unwrap_or(".*");
    let status = Regex::new(pattern)
        .map_err(|error| format!("Failed to compile status regexp: error parsing regexp: {}", first_words(&error)))?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let segment = flags::value(matches, "segment").unwrap_or("_all");
    let query = if flags::is_on(matches, "wan") { [("wan", "1")] } else { [("segment", segment)] };
    let mut members: Vec<Member> =
        client.get("/v1/agent/members", &query).map_err(|error| format!("Error retrieving members: {error}"))?;
    members.retain(|member| status.is_match(member.status()));
    if members.is_empty() {
        return Err(Failure::Code(2));
    }
    for member in &mut members {
        // Servers are in every segment; an empty name is the default one.
        if member.tag("role") == "consul" {
            member.tags.insert("segment".to_owned(), "<all>".to_owned());
        } else if member.tag("segment").is_empty() {
            member.tags.insert("segment".to_owned(), "<default>".to_owned());
        }
    }
    members.sort_by(|a, b| (a.tag("segment"), &a.name).cmp(&(b.tag("segment"), &b.name)));
    match flags::value(matches, "format") {
        Some("json") => context.say(&serde_json::to_string_pretty(&members).map_err(|error| error.to_string())?),
        _ if flags::is_on(matches, "detailed") => context.say(&(detailed(&members) + &troubles(&members))),
        _ => context.say(&(standard(&members) + &troubles(&members))),
    }
    Ok(())
}

fn standard(members: &[Member]) -> String {
    let mut rows = vec![row(["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"])];
    for member in members {
        let kind = match member.tag("role") {
            "node" => "client",
            "consul" => "server",
            _ => "unknown",
        };
        let (build, protocol) = match kind {
            "unknown" => ("unknown", "unknown"),
            _ => (member.tag("build").split(':').next().unwrap_or_default(), member.tag("vsn")),
        };
        let (dc, segment) = match kind {
            "unknown" => ("unknown", member.tag("segment")),
            _ => (member.tag("dc"), member.tag("segment")),
        };
        rows.push(row([&member.name, &member.address(), member.status(), kind, build, protocol, dc, segment]));
    }
    columns(&rows)
}

fn detailed(members: &[Member]) -> String {
    let mut rows = vec![row(["Node", "Address", "Status", "Tags"])];
    for member in members {
        let tags: Vec<String> = member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        rows.push(row([&member.name, &member.address(), member.status(), &tags.join(",")]));
    }
    columns(&rows)
}

/// A line for each member that somebody should look after.
fn troubles(members: &[Member]) -> String {
    let troubled = members.iter().filter(|member| !member.trouble.is_empty());
    troubled.map(|member| format!("\n{}: {}", member.name, member.trouble)).collect()
}

/// The last line of a regex error: what is wrong, without the drawing.
pub(super) fn first_words(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    fn member(name: &str, role: &str, status: u8) -> Member {
        let tags = [("role", role), ("build", "1.8.7:abc"), ("vsn", "2"), ("dc", "dc1"), ("segment", "<all>")];
        Member {
            name: name.to_owned(),
            addr: "127.0.0.1".to_owned(),
            port: 8301,
            tags: tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            status,
            trouble: String::new(),
        }
    }

    #[test]
    fn trouble_stands_below_the_table() {
        let mut members = [member("a", "consul", 1), member("bb", "node", 1)];
        assert_eq!(troubles(&members), "");
        members[1].trouble = "has the node id of a".to_owned();
        assert_eq!(troubles(&members), "\nbb: has the node id of a");
    }

    #[test]
    fn tables() {
        let members = [member("a", "consul", 1), member("bb", "node", 4)];
        assert_eq!(
            standard(&members),
            "Node  Address         Status  Type    Build  Protocol  DC   Segment\n\
             a     127.0.0.1:8301  alive   server  1.8.7  2         dc1  <all>\n\
             bb    127.0.0.1:8301  failed  client  1.8.7  2         dc1  <all>"
        );
        assert!(detailed(&members).ends_with("failed  build=1.8.7:abc,dc=dc1,role=node,segment=<all>,vsn=2"));
    }

    #[test]
    fn ipv6_is_bracketed() {
        let mut v6 = member("a", "node", 1);
        v6.addr = "::1".to_owned();
        assert_eq!(v6.address(), "[::1]:8301");
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let ran = consul(&["members", "-status=("]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.starts_with("Failed to compile status regexp: error parsing regexp: unclosed group"),
            "{}",
            ran.err
        );
    }
}
