//! A server for tests: a catalog that takes whole requests and gives whole replies.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::wire::msgpack::{Kind, Reader, Writer};

/// What the fake server has in its catalog, and what was asked.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) node: Value,
    pub(crate) services: BTreeMap<String, Value>,
    pub(crate) checks: BTreeMap<String, Value>,
    /// Method and arguments of every call.
    pub(crate) calls: Vec<(String, Value)>,
    /// Error by method.
    pub(crate) errors: BTreeMap<&'static str, String>,
    /// Reply by method, instead of the catalog's.
    pub(crate) canned: BTreeMap<&'static str, Value>,
}

impl Server {
    /// The methods asked since the last time.
    pub(crate) fn take_methods(&mut self) -> Vec<String> {
        self.calls.drain(..).map(|(method, _)| method.rsplit('.').next().unwrap_or("").into()).collect()
    }

    /// Answers the request at the start of `octets`: octets taken and the reply, once the request is whole.
    pub(crate) fn answer(&mut self, octets: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut whole = Reader::new(octets);
        whole.skip().ok()?;
        whole.skip().ok()?;
        let mut reader = Reader::new(octets);
        let header = unpack(&mut reader);
        let args = unpack(&mut reader);
        let method = header["ServiceMethod"].as_str().unwrap_or("").to_string();
        let error = self.errors.iter().find(|(name, _)| method.ends_with(**name)).map(|(_, text)| text.clone());
        let reply = match &error {
            Some(_) => json!({}),
            None => self.call(&method, &args),
        };
        self.calls.push((method.clone(), args));
        let header = json!({"Error": error.unwrap_or_default(), "Seq": header["Seq"], "ServiceMethod": method});
        Some((whole.position(), [pack(&header), pack(&reply)].concat()))
    }

    fn call(&mut self, method: &str, args: &Value) -> Value {
        if let Some((_, canned)) = self.canned.iter().find(|(name, _)| method.ends_with(**name)) {
            return canned.clone();
        }
        match method {
            "Catalog.NodeServiceList" => {
                let services: Vec<Value> = self.services.values().cloned().collect();
                json!({"Index": 5, "KnownLeader": true, "NodeServices": {"Node": self.node, "Services": services}})
            }
            "Catalog.NodeServices" => {
                json!({"Index": 5, "KnownLeader": true, "NodeServices": {"Node": self.node, "Services": self.services}})
            }
            "Health.NodeChecks" => {
                json!({"HealthChecks": self.checks.values().cloned().collect::<Vec<Value>>(), "Index": 7})
            }
            "Catalog.Register" => {
                if args["SkipNodeUpdate"] != true {
                    self.node = json!({"ID": args["ID"], "Node": args["Node"], "Address": args["Address"],
                        "TaggedAddresses": args["TaggedAddresses"], "Meta": args["NodeMeta"]});
                }
                if !args["Service"].is_null() {
                    let id = args["Service"]["ID"].as_str().unwrap_or("").to_string();
                    self.services.insert(id, args["Service"].clone());
                }
                let mut checks = args["Checks"].as_array().cloned().unwrap_or_default();
                if !args["Check"].is_null() {
                    checks.push(args["Check"].clone());
                }
                for check in checks {
                    self.checks.insert(check["CheckID"].as_str().unwrap_or("").to_string(), check);
                }
                json!({})
            }
            "Catalog.Deregister" => {
                if let Some(id) = args["ServiceID"].as_str() {
                    self.services.remove(id);
                    self.checks.retain(|_, check| check["ServiceID"] != id);
                } else if let Some(id) = args["CheckID"].as_str() {
                    self.checks.remove(id);
                }
                json!({})
            }
            _ => json!({}),
        }
    }
}

/// JSON as msgpack.
pub(crate) fn pack(value: &Value) -> Vec<u8> {
    let mut out = vec![0; Writer::measure(|w| emit(w, value))];
    emit(&mut Writer::new(&mut out), value);
    out
}

fn emit(w: &mut Writer<'_>, value: &Value) {
    match value {
        Value::Null => w.nil(),
        Value::Bool(flag) => w.bool(*flag),
        Value::Number(n) => match n.as_i64() {
            Some(int) => w.int(int),
            None => w.float(n.as_f64().unwrap()),
        },
        Value::String(text) => w.text(text),
        Value::Array(list) => {
            w.array(list.len());
            list.iter().for_each(|inner| emit(w, inner));
        }
        Value::Object(map) => {
            w.map(map.len());
            // Backwards, to differ from the order of our own records.
            for (key, inner) in map.iter().rev() {
                w.text(key);
                emit(w, inner);
            }
        }
    }
}

/// msgpack as JSON.
pub(crate) fn unpack(reader: &mut Reader<'_>) -> Value {
    match reader.peek().unwrap() {
        Kind::Nil => reader.skip().map(|_| Value::Null).unwrap(),
        Kind::Bool => reader.bool().unwrap().into(),
        Kind::Int => reader.int().unwrap().into(),
        Kind::Float => reader.float().unwrap().into(),
        Kind::Raw => reader.text().unwrap().into(),
        Kind::Array => (0..reader.array().unwrap()).map(|_| unpack(reader)).collect(),
        Kind::Map => {
            let mut map = Map::new();
            for _ in 0..reader.map().unwrap() {
                map.insert(reader.text().unwrap().into(), unpack(reader));
            }
            map.into()
        }
        Kind::Other => panic!("extension"),
    }
}
