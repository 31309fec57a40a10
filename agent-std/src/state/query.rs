//! Writes to prepared queries (http spec §9), and how a name finds one.

use std::sync::Arc;

use super::{
    Refusal,
    tables::{Change, Name, State},
    watch::Topic,
};
use crate::model::PreparedQuery;

impl Change {
    /// Operation `op` of `PreparedQuery.Apply`. The answer is the query's id.
    pub fn query(&mut self, op: &str, query: PreparedQuery) -> Result<String, Refusal> {
        match op {
            "create" | "update" => self.put_query(query),
            "delete" => {
                self.remove_query(&query.id);
                Ok(query.id)
            }
            _ => Err(Refusal(format!("Invalid PreparedQuery operation '{op}'"))),
        }
    }

    fn put_query(&mut self, mut query: PreparedQuery) -> Result<String, Refusal> {
        let id: Name = query.id.as_str().into();
        let same_name = |other: &&Arc<PreparedQuery>| {
            other.id != query.id && other.name == query.name && is_template(other) == is_template(&query)
        };
        if (!query.name.is_empty() || is_template(&query)) && self.state.queries.values().any(|q| same_name(&q)) {
            return Err(match is_template(&query) {
                true => Refusal(format!("query template with prefix '{}' already exists", query.name)),
                false => Refusal(format!("name '{}' aliases an existing query name", query.name)),
            });
        }
        if !query.name.is_empty() && self.state.queries.contains_key(query.name.as_str()) {
            return Err(Refusal(format!("name '{}' aliases an existing query ID", query.name)));
        }
        if !query.session.is_empty() && !self.state.sessions.contains_key(query.session.as_str()) {
            return Err(Refusal::new("invalid session"));
        }
        query.create_index = self.state.queries.get(&id).map_or(self.index, |known| known.create_index);
        query.modify_index = self.index;
        self.state.queries.insert(Arc::clone(&id), Arc::new(query));
        self.touch_queries();
        Ok(id.to_string())
    }

    fn remove_query(&mut self, id: &str) {
        if self.state.queries.remove(id).is_some() {
            self.touch_queries();
        }
    }

    /// Ends the queries of a session.
    pub(super) fn end_queries_of(&mut self, session: &str) {
        let bound = self.state.queries.values().filter(|query| query.session == session);
        let ids: Vec<String> = bound.map(|query| query.id.clone()).collect();
        ids.iter().for_each(|id| self.remove_query(id));
    }

    fn touch_queries(&mut self) {
        self.state.indexes.queries = self.index;
        self.touch(Topic::Queries);
    }
}

fn is_template(query: &PreparedQuery) -> bool {
    !query.template.kind.is_empty()
}

impl State {
    /// Index of the table of prepared queries.
    pub fn queries_index(&self) -> u64 {
        self.indexes.queries
    }

    /// A prepared query.
    pub fn query(&self, id: &str) -> Option<&Arc<PreparedQuery>> {
        self.queries.get(id)
    }

    /// All prepared queries, by id.
    pub fn queries(&self) -> impl Iterator<Item = &Arc<PreparedQuery>> {
        self.queries.values()
    }

    /// What executing `name` means: the query of that id or name, else the template with the longest prefix of it.
    pub fn query_for(&self, name: &str) -> Option<&Arc<PreparedQuery>> {
        if name.is_empty() {
            return None;
        }
        let exact = |query: &&Arc<PreparedQuery>| !is_template(query) && query.name == name;
        let fits = |query: &&Arc<PreparedQuery>| is_template(query) && name.starts_with(&query.name);
        self.query(name)
            .or_else(|| self.queries().find(exact))
            .or_else(|| self.queries().filter(fits).max_by_key(|query| query.name.len()))
    }
}
