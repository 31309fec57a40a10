//! An agent's HTTP API as JSON.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use ureq::{Agent, http::Response};

use crate::Result;

/// Longer than any answer that is not a blocking query takes.
const LIMIT: Duration = Duration::from_secs(10);

/// A client of one agent.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    base: String,
    address: SocketAddr,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `X-Consul-Index`, where there is one.
    pub index: Option<u64>,
    /// The body as text.
    pub body: String,
}

impl Client {
    /// A client of the agent whose HTTP port is at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Client::with_limit(address, LIMIT)
    }

    /// The same, with a time of its own after which it waits no longer for an answer.
    pub fn with_limit(address: SocketAddr, limit: Duration) -> Self {
        let config = Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).build();
        Client { agent: config.into(), base: format!("http://{address}"), address }
    }

    /// The agent's HTTP port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `PUT path` with a body.
    ///
    /// # Errors
    ///
    /// When there is no answer; a status is no error.
    pub fn try_put(&self, path: &str, body: &str) -> Result<Answer> {
        answer(path, self.agent.put(format!("{}{path}", self.base)).send(body))
    }

    /// `DELETE path`.
    ///
    /// # Errors
    ///
    /// When there is no answer; a status is no error.
    pub fn try_delete(&self, path: &str) -> Result<Answer> {
        answer(path, self.agent.delete(format!("{}{path}", self.base)).call())
    }

    /// `GET path`.
    ///
    /// # Errors
    ///
    /// When there is no answer; a status is no error.
    pub fn ask(&self, path: &str) -> Result<Answer> {
        answer(path, self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// `GET path` as JSON.
    ///
    /// # Errors
    ///
    /// When there is no answer, its status is not 200 or it is no JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ask(path)?.ok(path)?;
        serde_json::from_str(&answer.body).map_err(|error| format!("{path}: {error}: {}", answer.body).into())
    }

    /// `PUT path` with a body.
    ///
    /// # Errors
    ///
    /// When there is no answer or its status is not 200.
    pub fn put(&self, path: &str, body: &str) -> Result<Answer> {
        answer(path, self.agent.put(format!("{}{path}", self.base)).send(body))?.ok(path)
    }
}

impl Client {
    /// `POST path` with a body.
    ///
    /// # Errors
    ///
    /// When there is no answer or its status is not 200.
    pub fn post(&self, path: &str, body: &str) -> Result<Answer> {
        answer(path, self.agent.post(format!("{}{path}", self.base)).send(body))?.ok(path)
    }

    /// `DELETE path`.
    ///
    /// # Errors
    ///
    /// When there is no answer or its status is not 200.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        answer(path, self.agent.delete(format!("{}{path}", self.base)).call())?.ok(path)
    }

    /// `GET path` as octets.
    ///
    /// # Errors
    ///
    /// When there is no answer or its status is not 200.
    pub fn octets(&self, path: &str) -> Result<Vec<u8>> {
        let mut response = self.agent.get(format!("{}{path}", self.base)).call()?;
        let status = response.status().as_u16();
        let octets = response.body_mut().read_to_vec()?;
        if status == 200 { Ok(octets) } else { Err(format!("{path}: status {status}").into()) }
    }

    /// `PUT path` with octets.
    ///
    /// # Errors
    ///
    /// When there is no answer or its status is not 200.
    pub fn put_octets(&self, path: &str, body: &[u8]) -> Result<Answer> {
        answer(path, self.agent.put(format!("{}{path}", self.base)).send(body))?.ok(path)
    }
}

impl Answer {
    fn ok(self, path: &str) -> Result<Self> {
        if self.status == 200 { Ok(self) } else { Err(format!("{path}: status {}: {}", self.status, self.body).into()) }
    }
}

fn answer(path: &str, response: std::result::Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer> {
    let mut response = response.map_err(|error| format!("{path}: {error}"))?;
    let index = response.headers().get("X-Consul-Index").and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Answer { status: response.status().as_u16(), index, body: response.body_mut().read_to_string()? })
}

/// Text of a JSON field; empty where there is none, because a missing name never equals an expected one.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The elements of a JSON list; none of anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
