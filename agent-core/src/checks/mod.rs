//! Health checks: when to run them and how to judge them.
//!
//! `schedule` decides what is due and what a result means; the other files judge one kind each. Sockets are the agent's
//! and scripts the host's business: this part is told what came of them. Texts are Consul's (http spec §5 "Outputs").

pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod schedule;
pub(crate) mod tcp;
pub(crate) mod ttl;

#[cfg(test)]
mod tests;

/// Result of a check. The order is the severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All is well.
    Passing,
    /// Serve it, but look after it.
    Warning,
    /// Do not serve it. The state of a check that has not run yet.
    #[default]
    Critical,
}

impl Health {
    /// The catalog's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Passing => "passing",
            Health::Warning => "warning",
            Health::Critical => "critical",
        }
    }

    /// Reads the catalog's spelling. A text of somebody's own counts as a warning: like a real agent we go on serving it,
    /// unless only passing instances are wanted.
    pub fn from_catalog(text: &str) -> Self {
        match text {
            "passing" => Health::Passing,
            "critical" | "" => Health::Critical,
            _ => Health::Warning,
        }
    }
}
