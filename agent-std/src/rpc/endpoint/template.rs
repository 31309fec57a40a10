//! Templates of prepared queries: one query that answers every name with its prefix (http spec §9).
//!
//! Each text of the query's service may hold `${name.full}`, `${name.prefix}`, `${name.suffix}`, `${match(N)}` (a group of
//! the regular expression) and `${agent.segment}`; `$${` stands for `${`. Consul's language has functions too; what is
//! not in this list is refused when the query is stored, not when somebody asks.

use regex::Regex;

use crate::model::{PreparedQuery, ServiceQuery};

/// The one kind of template.
const PREFIX_MATCH: &str = "name_prefix_match";

/// What a name means to a template.
struct Named<'a> {
    full: &'a str,
    prefix: &'a str,
    segment: &'a str,
    groups: Vec<&'a str>,
}

/// Says what is wrong with a query's template.
pub(super) fn check(query: &PreparedQuery) -> Result<(), String> {
    if query.template.kind.is_empty() {
        return Ok(());
    }
    filled(query, &query.name, "").map(drop).map_err(|why| format!("failed compiling template: {why}"))
}

/// The query as it answers `name`; one that is no template as it is.
pub(super) fn filled(query: &PreparedQuery, name: &str, segment: &str) -> Result<PreparedQuery, String> {
    let template = &query.template;
    if template.kind.is_empty() {
        return Ok(query.clone());
    }
    if template.kind != PREFIX_MATCH {
        return Err(format!("Bad Template.Type '{}'", template.kind));
    }
    let pattern = Regex::new(&template.regexp).map_err(|error| format!("Bad Regexp: {error}"))?;
    let groups = match (template.regexp.is_empty(), pattern.captures(name)) {
        (false, Some(found)) => found.iter().map(|group| group.map_or("", |group| group.as_str())).collect(),
        _ => Vec::new(),
    };
    let named = Named { full: name, prefix: &query.name, segment, groups };
    let mut query = query.clone();
    texts(&mut query.service).try_for_each(|text| {
        *text = named.fill(text)?;
        Ok::<(), String>(())
    })?;
    if template.remove_empty_tags {
        query.service.tags.iter_mut().for_each(|tags| tags.retain(|tag| !tag.is_empty()));
    }
    Ok(query)
}

/// All texts that are filled in.
fn texts(service: &mut ServiceQuery) -> impl Iterator<Item = &mut String> {
    let ServiceQuery { service, failover, ignore_check_ids, near, tags, node_meta, service_meta, .. } = service;
    let lists = [&mut failover.datacenters, ignore_check_ids, tags];
    let maps = [node_meta, service_meta];
    [service, near]
        .into_iter()
        .chain(lists.into_iter().flatten().flatten())
        .chain(maps.into_iter().flatten().flat_map(|map| map.values_mut()))
}

impl Named<'_> {
    fn fill(&self, text: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(escaped) = before.strip_suffix('$') {
                out.push_str(escaped);
                out.push_str("${");
                rest = after;
                continue;
            }
            let (expression, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: missing }}"))?;
            out.push_str(before);
            out.push_str(self.value(expression.trim())?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, expression: &str) -> Result<&str, String> {
        let group = expression.strip_prefix("match(").and_then(|rest| rest.strip_suffix(')'));
        match (expression, group.map(str::trim).map(str::parse::<usize>)) {
            ("name.full", _) => Ok(self.full),
            ("name.prefix", _) => Ok(self.prefix),
            ("name.suffix", _) => Ok(self.full.strip_prefix(self.prefix).unwrap_or_default()),
            ("agent.segment", _) => Ok(self.segment),
            // A group that is not there is empty, as in Consul.
            (_, Some(Ok(number))) => Ok(self.groups.get(number).copied().unwrap_or_default()),
            _ => Err(format!(
                "${{{expression}}} is unknown; known are name.full, name.prefix, name.suffix, match(N) and \
                              agent.segment"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::QueryTemplate;

    fn template(name: &str, regexp: &str, service: &str) -> PreparedQuery {
        let tags = Some(vec!["${match(1)}".to_owned(), "${match(9)}".to_owned()]);
        let template = QueryTemplate { kind: PREFIX_MATCH.into(), regexp: regexp.into(), remove_empty_tags: true };
        let service = ServiceQuery { service: service.into(), tags, ..ServiceQuery::default() };
        PreparedQuery { name: name.into(), template, service, ..PreparedQuery::default() }
    }

    #[test]
    fn names_are_taken_apart() {
        let query = template("geo-", "^geo-(.*?)-([^-]+)$", "${match(2)}.${name.suffix}.${ name.prefix }$${x}");
        let filled = filled(&query, "geo-db-customer", "").unwrap();
        assert_eq!(filled.service.service, "customer.db-customer.geo-${x}");
        assert_eq!(filled.service.tags, Some(vec!["db".to_owned()]));
    }

    #[test]
    fn what_cannot_be_filled_is_refused_when_stored() {
        assert_eq!(check(&template("", "^(.*)$", "${name.full}")), Ok(()));
        for (query, why) in [
            (template("", "(", "x"), "failed compiling template: Bad Regexp"),
            (template("", "", "${name.full"), "missing }"),
            (template("", "", "${upper(name.full)}"), "is unknown"),
        ] {
            let error = check(&query).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut other = template("", "", "x");
        other.template.kind = "x".into();
        assert_eq!(check(&other), Err("failed compiling template: Bad Template.Type 'x'".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[$a-z{}().0-9 ]{0,30}", name in ".{0,10}") {
            let _ = filled(&template("", "(a)(b)?", &text), &name, "s");
        }
    }
}
