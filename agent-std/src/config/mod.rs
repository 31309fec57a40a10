//! The agent's configuration: as written ([`low`]) → resolved and checked ([`Config`]). Config spec §1–§5.
//!
//! ```text
//! files, flags ─parse─▶ JSON values ─schema─▶ known keys, right types ─merge─▶ one value ─serde─▶ Low ─resolve─▶ Config
//! ```
//!
//! A key that Consul has and we do not is refused by name, unless it is set to what we do anyway (`enable_debug: false`):
//! nothing that was written is ever ignored.

pub mod duration;
pub mod flags;
pub mod load;
pub mod meta;
pub mod schema;
pub mod secret;

mod gossip;
mod high;
pub mod low;
mod merge;
mod validate;

pub use gossip::GossipKey;
pub use high::{Config, DnsRules, Listen, Ports};
pub use low::Low;

/// Several problems at once, in the layout of Go's multierror.
pub fn several(problems: &[String]) -> String {
    let count = problems.len();
    let noun = if count == 1 { "error" } else { "errors" };
    let lines: Vec<String> = problems.iter().map(|problem| format!("\t* {problem}")).collect();
    format!("{count} {noun} occurred:\n{}\n\n", lines.join("\n"))
}
