//! Health checks: when to run them and how to judge them.

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
