//! Each row is a fact about Go's `encoding/json`, decoding into a struct.

use std::time::Duration;

use serde_json::{Value, json};

use super::{FieldError, Object, read};
use crate::processor_time::processor_time;

fn value(text: &str) -> Value {
    read(text.as_bytes()).unwrap()
}

fn string(text: &str, key: &str) -> Option<String> {
    let value = value(text);
    Object::root(&value).unwrap().string(key).unwrap().map(str::to_owned)
}

#[test]
fn keys_match_in_any_case_and_the_last_wins() {
    for (text, expected) in [
        (r#"{"range": "a"}"#, Some("a")),
        (r#"{"RANGE": "a"}"#, Some("a")),
        (r#"{"range": "a", "range": "b"}"#, Some("b")),
        (r#"{"range": "a", "Range": "b"}"#, Some("b")),
        (r#"{"Range": "a", "range": "b"}"#, Some("b")),
        // The third is last although its key was seen first.
        (r#"{"range": "a", "RANGE": "b", "range": "c"}"#, Some("c")),
        (r#"{"range": null}"#, None),
        (r#"{"range": "a", "range": null}"#, Some("a")),
        (r#"{"range": "a", "Range": null}"#, Some("a")),
        (r#"{"range": null, "range": "a"}"#, Some("a")),
        (r#"{"range_": "a"}"#, None),
        (r#"{}"#, None),
    ] {
        assert_eq!(string(text, "range").as_deref(), expected, "{text}");
    }
    // Kelvin sign and long s fold into ASCII.
    assert_eq!(string("{\"\u{17f}pee\u{212a}\": \"a\"}", "speek").as_deref(), Some("a"));
}

#[test]
fn the_order_is_the_one_of_the_last_places() {
    let value = value(r#"{"c": 1, "a": 1, "b": 1, "a": 2, "c": null, "b": 3, "d": 4}"#);
    assert_eq!(value.to_string(), r#"{"c":1,"a":2,"b":3,"d":4}"#);
}

/// Processor time of reading an object that has each of so many keys twice.
fn cost_of_repeated(count: usize) -> Duration {
    let keys: Vec<String> = (0..count).map(|n| format!("\"{n:x}\":0")).collect();
    let text = format!("{{{0},{0}}}", keys.join(","));
    processor_time(|| assert_eq!(value(&text).as_object().unwrap().len(), count))
}

#[test]
fn many_repeated_keys_cost_no_more_than_many_keys() {
    // Each of the second half repeats the key that came first of those left. Moved one by one, twenty
    // thousand such keys, a third of a megabyte, took 14 s here.
    let (few, many) = (cost_of_repeated(5_000), cost_of_repeated(20_000));
    assert!(many < few * 9, "{few:?} and {many:?}");
}

#[test]
fn numbers_are_whole_or_errors() {
    for (text, expected) in [
        (r#"{"mtu": 1500}"#, Ok(Some(1500))),
        (r#"{"mtu": -1}"#, Ok(Some(-1))),
        (r#"{"mtu": null}"#, Ok(None)),
        (r#"{"mtu": 1.0}"#, Err(())),
        (r#"{"mtu": 1e3}"#, Err(())),
        (r#"{"mtu": "1500"}"#, Err(())),
        (r#"{"mtu": 9223372036854775808}"#, Err(())),
        (r#"{"mtu": true}"#, Err(())),
    ] {
        let value = value(text);
        let found = Object::root(&value).unwrap().int("mtu").map_err(|_| ());
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn wrong_types_name_the_field() {
    let value =
        json!({ "ipam": { "exclude": ["10.0.0.1", 5], "range": {}, "on": "true", "dns": [], "routes": {} } });
    let mut root = Object::root(&value).unwrap();
    let mut ipam = root.object("ipam").unwrap().unwrap();
    let message = |error: FieldError| error.to_string();
    let errors = [
        message(ipam.strings("exclude").unwrap_err()),
        message(ipam.string("range").unwrap_err()),
        message(ipam.bool("on").unwrap_err()),
        message(ipam.object("dns").unwrap_err()),
        message(ipam.list("routes").unwrap_err()),
    ];
    assert_eq!(
        errors,
        [
            "ipam.exclude[1]: 5 is not a string; write it in double quotes",
            "ipam.range: {} is not a string; write it in double quotes",
            "ipam.on: \"true\" is not a boolean; write true or false without quotes",
            "ipam.dns: [] is not an object; write {\"key\": value, …}",
            "ipam.routes: {} is not a list; write it in brackets, […]",
        ]
    );
    let list = json!([1]);
    assert_eq!(
        message(Object::root(&list).unwrap_err()),
        "network configuration: [1] is not an object; write {\"key\": value, …}"
    );
}

#[test]
fn lists_have_paths_and_absent_is_empty() {
    let value = json!({ "ipRanges": [{ "range": "a" }, { "rang": "b" }], "none": null });
    let mut root = Object::root(&value).unwrap();
    assert!(root.list("none").unwrap().is_empty());
    assert!(root.list("absent").unwrap().is_empty());
    assert!(!root.present("none"));
    let elements = root.list("ipRanges").unwrap();
    assert_eq!(elements[1].path(), "ipRanges[1]");
    let second = elements[1].object().unwrap();
    assert_eq!(second.path_of("range"), "ipRanges[1].range");
    assert_eq!(second.unknown(), ["ipRanges[1].rang"]);
}

#[test]
fn keys_nobody_asked_for_are_listed() {
    let value = value(r#"{"b": 1, "range": "x", "Range": "y", "a": null}"#);
    let mut root = Object::root(&value).unwrap();
    assert_eq!(root.unknown(), ["b", "range", "Range", "a"]);
    assert!(root.present("range"));
    assert_eq!(root.unknown(), ["b", "a"]);
}

#[test]
fn one_document_and_nothing_after_it() {
    for text in ["", "{} {}", "{,}", "{\"a\": 01}", "{\"a\": NaN}", "{'a': 1}"] {
        assert!(read(text.as_bytes()).is_err(), "{text}");
    }
    let text = r#" {"z": [1, -2, 1.5, "x", true, null, {"k": []}], "a": {}} "#;
    assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn messages_stay_on_one_short_line() {
    let error = FieldError::text("ipam.range", &format!("a\nb{}", "x".repeat(500)), "is not a range");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(message.ends_with("x… is not a range") && message.chars().count() < 120, "{message}");
    let key = FieldError::missing("ü".repeat(500), "is unknown").to_string();
    assert!(key.ends_with("ü…: is unknown") && key.chars().count() < 180, "{key}");
    let missing = FieldError::missing("ipam.range", "is missing; write one");
    assert_eq!(missing.to_string(), "ipam.range: is missing; write one");
}

#[test]
fn a_document_has_a_limit_of_values() {
    let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    assert!(read(list((1 << 16) - 1).as_bytes()).is_ok());
    let error = read(list(1 << 16).as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("more than 65536 values at line 1 column "), "{error}");
}

#[test]
fn half_a_pair_and_bytes_that_are_no_text_are_replaced() {
    for (text, expected) in [
        (&br#"{"a": "x\ud800y"}"#[..], "x\u{fffd}y"),
        (br#"{"a": "\udc00\ud800"}"#, "\u{fffd}\u{fffd}"),
        (br#"{"a": "\ud800\u0041"}"#, "\u{fffd}A"),
        (br#"{"a": "\ud83d\ude00\u00e9"}"#, "\u{1f600}\u{e9}"),
        (b"{\"a\": \"x\xffy\"}", "x\u{fffd}y"),
        (b"{\"a\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "\"\\/\u{8}\u{c}\n\r\t"),
    ] {
        assert_eq!(read(text).unwrap()["a"], expected, "{}", String::from_utf8_lossy(text));
    }
    assert_eq!(read(b"{\"x\xff\": 1}").unwrap()["x\u{fffd}"], 1);
}

#[test]
fn what_nobody_asks_for_may_be_deep_or_large() {
    let deep =
        |depth: usize| format!("{{\"x\": {}{}, \"name\": \"n\"}}", "[".repeat(depth), "]".repeat(depth));
    for depth in [1, 127, 128, 9_999] {
        assert_eq!(string(&deep(depth), "name").as_deref(), Some("n"), "{depth}");
    }
    assert!(read(deep(10_001).as_bytes()).is_err());
    for number in ["1e400", "-1E+400", "123456789012345678901234567890", "0.5", "1e-999", "-0.0"] {
        let text = format!("{{\"x\": {number}, \"name\": \"n\"}}");
        assert_eq!(string(&text, "name").as_deref(), Some("n"), "{number}");
    }
    let zero = value(r#"{"a": -0}"#);
    assert_eq!(Object::root(&zero).unwrap().int("a").unwrap(), Some(0));
}

#[test]
fn what_go_refuses_is_refused() {
    for text in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "[1 2]",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "-",
        "--1",
        "nul",
        "tru e",
        "NaN",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"a",
        "{} {}",
        "[}",
        "\u{feff}{}",
        "]",
        ",",
        "{\"a\":}",
        "[,1]",
        "{,}",
        "1 x",
    ] {
        assert!(read(text.as_bytes()).is_err(), "{text:?}");
    }
    let error = read(b"{\n  \"a\": tru\n}").unwrap_err();
    assert_eq!(error.to_string(), "expected true, false or null at line 3 column 0");
}

#[test]
fn a_document_that_both_understand_is_the_same() {
    let text = include_str!("../../../tests/fixtures/octavia.json");
    let theirs: Value = serde_json::from_str(text).unwrap();
    assert_eq!(value(text), theirs);
    let odd =
        r#" [ {} , [ ] , "", 0, -1, 18446744073709551615, 1.5e3, true, false, null, {"a": {"b": [1]}} ] "#;
    assert_eq!(value(odd), serde_json::from_str::<Value>(odd).unwrap());
}
