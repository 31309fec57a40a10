//! Under which name we were started. A link named `consul` makes everything a user sees Consul's own.

use std::path::Path;

/// The version of Consul whose behaviour and protocols we keep.
pub const CONSUL_VERSION: &str = "1.8.7";

/// Our own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name we go by, chosen by `argv[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Started as `consul`.
    Consul,
    /// Started under any other name.
    Lictor,
}

impl Product {
    /// The product for the program name `argv0`, which may be a path.
    pub fn from_program(argv0: &str) -> Self {
        match Path::new(argv0).file_stem().and_then(|stem| stem.to_str()) {
            Some("consul") => Product::Consul,
            _ => Product::Lictor,
        }
    }

    /// The name in command lines.
    pub const fn command(self) -> &'static str {
        match self {
            Product::Consul => "consul",
            Product::Lictor => "lictor",
        }
    }

    /// The name in sentences.
    pub const fn name(self) -> &'static str {
        match self {
            Product::Consul => "Consul",
            Product::Lictor => "Lictor",
        }
    }

    /// The version shown to users: Consul's when we stand in for it.
    pub const fn version(self) -> &'static str {
        match self {
            Product::Consul => CONSUL_VERSION,
            Product::Lictor => VERSION,
        }
    }

    /// `text` with `{cmd}` and `{Name}` replaced by our names.
    pub fn fill(self, text: &str) -> String {
        text.replace("{cmd}", self.command()).replace("{Name}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_name_decides() {
        assert_eq!(Product::from_program("consul"), Product::Consul);
        assert_eq!(Product::from_program("/usr/bin/consul"), Product::Consul);
        assert_eq!(Product::from_program("target/debug/lictor"), Product::Lictor);
        assert_eq!(Product::from_program(""), Product::Lictor);
        assert_eq!(Product::from_program("my-consul"), Product::Lictor);
    }

    #[test]
    fn texts_carry_the_name() {
        assert_eq!(Product::Consul.fill("$ {cmd} join: {Name}"), "$ consul join: Consul");
    }
}
