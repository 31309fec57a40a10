//! Query strings (http spec §1).

use super::url::{self, BadEscape};

/// Parameters in the order given; names may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query string as Go does: pairs are parted by `&` or `;`, `+` is a blank.
    ///
    /// # Errors
    /// A broken percent escape.
    pub fn parse(query: &str) -> Result<Self, BadEscape> {
        let pairs = query.split(['&', ';']).filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((url::unescape(name, true)?, url::unescape(value, true)?))
        });
        Ok(Params(pairs.collect::<Result<_, _>>()?))
    }

    /// True when `name` was given, with whatever value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The first value of `name`; empty when it was not given.
    pub fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The parameters again, sorted by name, as Go's `Encode` writes them.
    pub fn encode(&self) -> String {
        let mut sorted: Vec<&(String, String)> = self.0.iter().collect();
        sorted.sort_by_key(|(name, _)| name);
        let pairs =
            sorted.iter().map(|(name, value)| format!("{}={}", url::escape_query(name), url::escape_query(value)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gos_rules() {
        let params = Params::parse("cas=1&acquire=b+c&stale;tag=x&tag=y&&e=%2F=").unwrap();
        assert_eq!((params.first("acquire"), params.first("e"), params.first("none")), ("b c", "/=", ""));
        assert!(params.has("stale") && !params.has("none"));
        assert_eq!(params.all("tag").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(Params::parse("cas=1&acquire=b").unwrap().encode(), "acquire=b&cas=1");
        assert!(Params::parse("a=%zz").is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(pairs in proptest::collection::vec(("[^\0]{1,4}", ".{0,6}"), 0..5)) {
            let mut params = Params(pairs);
            params.0.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(Params::parse(&params.encode()), Ok(params));
        }

        #[test]
        fn any_query_is_survived(query in "[&;=%+a-f0-9]{0,30}|.{0,20}") {
            let _ = Params::parse(&query);
        }
    }
}
