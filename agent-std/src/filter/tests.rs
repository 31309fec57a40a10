use proptest::prelude::*;

use super::*;
use crate::model::{CheckServiceNode, HealthCheck, Node, NodeService, PASSING, WARNING};

fn instance() -> CheckServiceNode {
    let meta = |key: &str, value: &str| Some([(key.to_owned(), value.to_owned())].into());
    CheckServiceNode {
        node: Node { node: "edge-1".into(), address: "10.0.0.1".into(), meta: meta("os", "linux"), ..<_>::default() },
        service: NodeService {
            service: "web".into(),
            tags: Some(vec!["v1".into(), "t1".into()]),
            port: 8080,
            meta: meta("a b", "c"),
            ..<_>::default()
        },
        checks: Some(vec![
            HealthCheck { status: PASSING.into(), ..<_>::default() },
            HealthCheck { status: WARNING.into(), ..<_>::default() },
        ]),
    }
}

#[test]
fn expressions_judge_as_the_reference() {
    for (text, expected) in [
        ("Service.Port == 8080", true),
        ("Service.Port != 8080", false),
        (r#""t1" in Service.Tags"#, true),
        ("v2 not in Service.Tags", true),
        (r#"Node.Address == "10.0.0.1""#, true),
        ("Node.Meta.os == linux and not Service.Tags is empty", true),
        ("Node.Meta.os != linux or (Service.Service matches `^w.b$`)", true),
        ("Service.Service not matches w", false),
        (r#"Service.Meta["a b"] == c"#, true),
        ("Node.Meta.none == x", false),
        ("Node.Meta.none != x", true),
        ("os in Node.Meta", true),
        ("Node.Node contains dge", true),
        ("Node.Node not contains dge", false),
        ("Checks.Status == warning", true),
        ("Checks.Status == critical", false),
        ("Service.Kind is empty", true),
        ("Service.Kind == \"\"", true),
        ("Service.EnableTagOverride == false", true),
        ("Service.TaggedAddresses is not empty", false),
    ] {
        let filter = Filter::new(text, &shape::INSTANCE).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.matches(&instance()), expected, "{text}");
    }
}

#[test]
fn errors_say_what_and_where() {
    let error = |text: &str| Filter::new(text, &shape::INSTANCE).unwrap_err().to_string();
    assert_eq!(error("Bogus == 1"), r#"Selector "Bogus" is not valid"#);
    assert!(error("a ~ b").starts_with("1:3 (2): no match found, expected: "), "{}", error("a ~ b"));
    let text =
        r#"1:6 (5): no match found, expected: "!=", "==", "contains", "in", "is", "matches", "not" or [ \t\r\n]"#;
    assert_eq!(error("Node "), text);
    for text in
        ["", "(", "Service.Port == x", "Service.Port is empty", "Service.Service matches `(`", "Node.Node == a b"]
    {
        assert!(Filter::new(text, &shape::INSTANCE).is_err(), "{text}");
    }
    assert_eq!(Filter::new(&"(".repeat(1000), &shape::INSTANCE).unwrap_err(), FilterError::TooLong);
    assert_eq!(Filter::new(&"not ".repeat(1000), &shape::INSTANCE).unwrap_err(), FilterError::TooLong);
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-zA-Z\"`.()=! \\[\\]é\\\\0]{0,40}") {
        if let Ok(filter) = Filter::new(&text, &shape::INSTANCE) {
            filter.matches(&instance());
        }
    }
}
