//! Who may do what. ACLs themselves are not here yet: every endpoint asks, and [`AllowAll`] answers.

/// What a call wants to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A key.
    Key(&'a str),
    /// Every key that begins with this.
    KeyPrefix(&'a str),
    /// A node.
    Node(&'a str),
    /// A service.
    Service(&'a str),
    /// Sessions of a node.
    Session(&'a str),
    /// A user event.
    Event(&'a str),
    /// A prepared query, by its name.
    Query(&'a str),
    /// The gossip keys.
    Keyring,
    /// The servers themselves.
    Operator,
    /// All that there is, secrets included.
    Everything,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look.
    Read,
    /// Change.
    Write,
}

/// Decides. Called with locks free and often: must be quick.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the token with this secret may.
    fn allows(&self, token: &str, access: Access, resource: Resource<'_>) -> bool;
}

/// ACLs are off.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &str, _: Access, _: Resource<'_>) -> bool {
        true
    }
}
