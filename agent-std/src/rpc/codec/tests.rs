use std::collections::BTreeMap;

use agent_core::wire::msgpack::Reader;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Sample {
    zeta: String,
    alpha: i64,
    list: Option<Vec<String>>,
    map: Option<BTreeMap<String, u64>>,
    ratio: f64,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Inner {
    beta: bool,
}

#[test]
fn structs_have_sorted_keys_and_flattened_parts() {
    let sample =
        Sample { zeta: "z".into(), alpha: -1, list: Some(vec![]), inner: Inner { beta: true }, ..<_>::default() };
    let octets = to_vec(&sample).unwrap();
    let expected = b"\x86\xa5Alpha\xff\xa4Beta\xc3\xa4List\x90\xa3Map\xc0\xa5Ratio\xcb\0\0\0\0\0\0\0\0\xa4Zeta\xa1z";
    assert_eq!(octets, expected);
    assert_eq!(from_slice::<Sample>(&octets).unwrap(), sample);
}

#[test]
fn text_of_any_length_is_raw() {
    for len in [0, 31, 32, 255, 256, 65535, 65536] {
        let octets = to_vec(&"x".repeat(len)).unwrap();
        assert!(matches!(octets[0], 0xa0..=0xbf | 0xda | 0xdb), "{len}");
        assert_eq!(from_slice::<String>(&octets).unwrap().len(), len);
    }
}

#[test]
fn nil_unknown_keys_and_other_widths_are_read() {
    let octets =
        b"\x85\xa4Zeta\xd9\x01z\xa5Alpha\xd3\0\0\0\0\0\0\0\x07\xa3New\x92\x81\x01\x02\xc0\xa4List\xc0\xa4Beta\xc3";
    let sample: Sample = from_request(octets).unwrap();
    assert_eq!((sample.zeta.as_str(), sample.alpha, sample.list), ("z", 7, None));
    assert!(from_request::<Sample>(b"\xc0").unwrap() == Sample::default());
    assert!(from_request::<Sample>(b"\x90").unwrap() == Sample::default());
    assert_eq!(from_request::<(String, u64)>(b"\x92\xc0\xc0").unwrap(), (String::new(), 0));
    assert_eq!(from_request::<String>(b"\xa2\xffa").unwrap(), "\u{fffd}a");
}

#[test]
fn depth_and_number_are_bounded() {
    let mut deep = vec![0x91; 100_000];
    deep.push(0xc0);
    assert_eq!(from_request::<serde_json::Value>(&deep), Err(Error::TooDeep));
    let mut long = vec![0xdd, 0, 2, 0, 0];
    long.resize(5 + (2 << 16), 0x80);
    assert_eq!(from_request::<Vec<Sample>>(&long).err(), Some(Error::TooMany));
    assert!(from_request::<Vec<Sample>>(b"\xdd\xff\xff\xff\xff\x80").is_err());
}

/// The end found piecewise is the end that the core's reader finds in one go.
fn same_end(octets: &[u8], pieces: &[usize]) {
    let mut reader = Reader::new(octets);
    let whole = reader.skip().map(<[u8]>::len);
    let mut boundary = Boundary::default();
    let mut have = 0;
    let mut found = Ok(None);
    for piece in pieces.iter().copied().chain([octets.len()]) {
        have = octets.len().min(have + piece);
        found = boundary.find(&octets[..have]);
        if found != Ok(None) {
            break;
        }
    }
    match whole {
        Ok(len) => assert_eq!(found, Ok(Some(len))),
        Err(_) => assert!(!matches!(found, Ok(Some(_)))),
    }
}

#[test]
fn every_prefix_of_a_value_is_incomplete() {
    let octets = to_vec(&Sample { list: Some(vec!["é".repeat(40)]), ..<_>::default() }).unwrap();
    for end in 0..octets.len() {
        assert_eq!(Boundary::default().find(&octets[..end]), Ok(None));
        assert!(from_slice::<Sample>(&octets[..end]).is_err());
    }
    assert_eq!(Boundary::default().find(&octets), Ok(Some(octets.len())));
}

proptest! {
    #[test]
    fn random_octets_neither_panic_nor_disagree(octets in proptest::collection::vec(any::<u8>(), 0..200), pieces in proptest::collection::vec(0usize..9, 0..40)) {
        let _ = from_request::<Sample>(&octets);
        let _ = from_request::<serde_json::Value>(&octets);
        same_end(&octets, &pieces);
    }
}
