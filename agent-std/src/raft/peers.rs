//! `peers.json`: the configuration that an operator gives a server whose quorum is lost, in both of Consul's forms.
//!
//! The newer form is a list of objects, `[{"id": "…", "address": "10.0.0.1:8300", "non_voter": false}]`. The older one is a
//! list of addresses, `["10.0.0.1:8300"]`; which servers these are is looked up in what the survivor knows.

use std::net::SocketAddr;

use serde::Deserialize;

use super::servers::{Server, Servers, Suffrage};

#[derive(Deserialize)]
#[serde(untagged)]
enum Peer {
    Address(SocketAddr),
    Object {
        id: String,
        address: SocketAddr,
        #[serde(default)]
        non_voter: bool,
    },
}

/// Reads the file's content. `known` are the servers that the survivor knows, `own` is itself, as it is configured now.
///
/// # Errors
/// Neither of the two forms, an empty list, one without a voter, a server twice, or an address that no known server has.
pub fn parse(text: &str, known: &Servers, own: &Server) -> Result<Servers, String> {
    const FORMS: &str =
        "expected [{\"id\": \"NODE-ID\", \"address\": \"IP:PORT\", \"non_voter\": false}, …] or [\"IP:PORT\", …]";
    let peers: Vec<Peer> = serde_json::from_str(text).map_err(|error| format!("{error}; {FORMS}"))?;
    if peers.is_empty() {
        return Err(format!("it names no server; {FORMS}"));
    }
    let name = |id: &str| {
        let own = Some(own).filter(|own| own.id.eq_ignore_ascii_case(id));
        known.by_id(id).or(own).map_or_else(|| id.to_owned(), |server| server.name.clone())
    };
    let servers = peers.into_iter().map(|peer| match peer {
        Peer::Object { id, address, non_voter } => {
            let suffrage = if non_voter { Suffrage::NonVoter } else { Suffrage::Voter };
            Ok(Server { name: name(&id), id: id.to_ascii_lowercase(), address, suffrage })
        }
        Peer::Address(address) if address == own.address => Ok(Server { suffrage: Suffrage::Voter, ..own.clone() }),
        Peer::Address(address) => {
            let server = known.iter().find(|server| server.address == address).cloned();
            server
                .map(|server| Server { suffrage: Suffrage::Voter, ..server })
                .ok_or_else(|| format!("this server knows none at {address}; give its id as well: {FORMS}"))
        }
    });
    let servers = servers.collect::<Result<Vec<_>, String>>()?;
    for (at, server) in servers.iter().enumerate() {
        if servers[..at].iter().any(|other| other.id == server.id || other.address == server.address) {
            return Err(format!("it names {} at {} twice", server.id, server.address));
        }
    }
    if servers.iter().all(|server| server.suffrage != Suffrage::Voter) {
        return Err("it names no voter: nobody could lead".to_owned());
    }
    Ok(Servers::new(servers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u8) -> Server {
        Server {
            id: format!("00000000-0000-4000-8000-{number:012}"),
            name: format!("s{number}"),
            address: format!("10.0.0.{number}:8300").parse().unwrap(),
            suffrage: Suffrage::Voter,
        }
    }

    #[test]
    fn both_forms() {
        let known = Servers::new([server(1), server(2)]);
        let parse = |text: &str| parse(text, &known, &server(1));
        let wanted = Servers::new([server(1), Server { suffrage: Suffrage::NonVoter, ..server(2) }]);
        let objects = format!(
            r#"[{{"id": "{}", "address": "10.0.0.1:8300"}}, {{"id": "{}", "address": "10.0.0.2:8300", "non_voter": true}}]"#,
            server(1).id,
            server(2).id
        );
        assert_eq!(parse(&objects), Ok(wanted));
        assert_eq!(parse(r#"["10.0.0.1:8300", "10.0.0.2:8300"]"#), Ok(known.clone()));
        for (text, what) in [
            ("[]", "names no server"),
            ("nope", "expected [{"),
            (r#"["10.0.0.9:8300"]"#, "knows none at 10.0.0.9:8300"),
            (r#"[{"id": "x"}]"#, "expected [{"),
            (r#"["10.0.0.1:8300", "10.0.0.1:8300"]"#, "at 10.0.0.1:8300 twice"),
            (r#"[{"id": "x", "address": "10.0.0.1:8300", "non_voter": true}]"#, "no voter"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
