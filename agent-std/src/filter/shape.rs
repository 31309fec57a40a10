//! What can be asked of nodes, services and checks.

/// The shape of a value, as far as selectors reach into it.
#[derive(Debug)]
pub enum Shape {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Bool,
    /// A list.
    List(&'static Shape),
    /// A map with text keys.
    Map(&'static Shape),
    /// Named fields.
    Fields(&'static [(&'static str, Shape)]),
}

use Shape::{Bool, Fields, List, Map, Number, Text};

const TEXTS: Shape = List(&Text);
const TEXT_MAP: Shape = Map(&Text);
const ADDRESSES: Shape = Map(&Fields(&[("Address", Text), ("Port", Number)]));
const WEIGHTS: Shape = Fields(&[("Passing", Number), ("Warning", Number)]);
const CONNECT: Shape = Fields(&[("Native", Bool)]);
const PROXY: Shape = Fields(&[
    ("DestinationServiceName", Text),
    ("DestinationServiceID", Text),
    ("LocalServiceAddress", Text),
    ("LocalServicePort", Number),
    ("MeshGateway", Fields(&[("Mode", Text)])),
]);

/// A node.
pub const NODE: Shape = Fields(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", TEXT_MAP),
    ("Meta", TEXT_MAP),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// A service of a node or of an agent.
pub const SERVICE: Shape = Fields(&[
    ("Kind", Text),
    ("ID", Text),
    ("Service", Text),
    ("Tags", TEXTS),
    ("Address", Text),
    ("TaggedAddresses", ADDRESSES),
    ("Meta", TEXT_MAP),
    ("Port", Number),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Bool),
    ("Proxy", PROXY),
    ("Connect", CONNECT),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// A check.
pub const CHECK: Shape = Fields(&[
    ("Node", Text),
    ("CheckID", Text),
    ("Name", Text),
    ("Status", Text),
    ("Notes", Text),
    ("Output", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", TEXTS),
    ("Type", Text),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

/// An instance with its health.
pub const INSTANCE: Shape = Fields(&[("Node", NODE), ("Service", SERVICE), ("Checks", List(&CHECK))]);

/// A node with all that is on it.
pub const NODE_INFO: Shape = Fields(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("TaggedAddresses", TEXT_MAP),
    ("Meta", TEXT_MAP),
    ("Services", List(&SERVICE)),
    ("Checks", List(&CHECK)),
]);

/// An instance of `Catalog.ServiceNodes`.
pub const SERVICE_NODE: Shape = Fields(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", TEXT_MAP),
    ("NodeMeta", TEXT_MAP),
    ("ServiceKind", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", TEXTS),
    ("ServiceAddress", Text),
    ("ServiceTaggedAddresses", ADDRESSES),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", TEXT_MAP),
    ("ServicePort", Number),
    ("ServiceEnableTagOverride", Bool),
    ("ServiceProxy", PROXY),
    ("ServiceConnect", CONNECT),
    ("CreateIndex", Number),
    ("ModifyIndex", Number),
]);

impl Shape {
    /// The shape that `path` leads to; lists are passed through.
    pub(super) fn at(&self, path: &[String]) -> Option<&Shape> {
        match (self, path) {
            (shape, []) => Some(shape),
            (List(inner), path) => inner.at(path),
            (Map(inner), [_, rest @ ..]) => inner.at(rest),
            (Fields(fields), [first, rest @ ..]) => {
                fields.iter().find(|(name, _)| name == first).and_then(|(_, shape)| shape.at(rest))
            }
            (Text | Number | Bool, _) => None,
        }
    }
}
