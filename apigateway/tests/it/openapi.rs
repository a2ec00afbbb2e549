//! The document and the routes are the same.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fakes::{Fake, get};

fn document() -> Value {
    get("/openapi.json").to(&Fake::default().app()).json()
}

#[test]
fn every_route_is_in_the_document_and_no_other() {
    let document = document();
    let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, apigateway::TEMPLATES.into_iter().collect());
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn every_described_method_is_the_routes_own() {
    let app = Fake::default().app();
    for (path, item) in document()["paths"].as_object().unwrap() {
        let got = crate::fakes::method(tide::http::Method::Options, path).to(&app);
        let allow = got.header("allow").unwrap();
        for method in item.as_object().unwrap().keys() {
            assert!(allow.contains(&method.to_uppercase()), "{method} {path}: {allow}");
        }
        assert_eq!(item.as_object().unwrap().len(), 1, "{path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn visit(document: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref") {
                    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{pointer}");
                }
                fields.values().for_each(|field| visit(document, field));
            }
            Value::Array(items) => items.iter().for_each(|item| visit(document, item)),
            _ => {}
        }
    }
    let document = document();
    visit(&document, &document);
}

#[test]
fn examples_of_bodies_are_taken() {
    let fake = Fake::default();
    let app = fake.app();
    for (path, item) in document()["paths"].as_object().unwrap() {
        let Some(example) = item.pointer("/put/requestBody/content/application~1json/example") else { continue };
        assert_eq!(crate::fakes::put(path, example.to_string()).to(&app).status(), 200, "{path}");
    }
    assert_eq!(fake.calls(), 3);
}

/// A schema of the document, its reference followed.
fn follow<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

#[test]
fn described_limits_of_bodies_are_the_real_ones() {
    let (document, app) = (document(), Fake::default().app());
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(content) = item.pointer("/put/requestBody/content/application~1json") else { continue };
        let schema = follow(&document, &content["schema"]);
        assert_eq!(schema["required"].as_array().unwrap().len(), schema["properties"].as_object().unwrap().len());
        for (name, field) in schema["properties"].as_object().unwrap() {
            let mut body = content["example"].clone();
            let mut status = |value: Option<Value>| {
                let fields = body.as_object_mut().unwrap();
                match value {
                    Some(value) => drop(fields.insert(name.clone(), value)),
                    None => drop(fields.remove(name)),
                }
                crate::fakes::put(path, body.to_string()).to(&app).status()
            };
            assert_eq!(status(None), 400, "{path}: {name} is required");
            if let Some(most) = field["maxLength"].as_u64() {
                let most = usize::try_from(most).unwrap();
                assert_eq!(status(Some("x".repeat(most).into())), 200, "{path}: {name}");
                assert_eq!(status(Some("x".repeat(most + 1).into())), 400, "{path}: {name}");
            } else {
                let number = &field["oneOf"][0];
                for (bound, beyond) in [("minimum", "0"), ("maximum", "9223372036854775808")] {
                    assert_eq!(status(Some(number[bound].clone())), 200, "{path}: {name}");
                    assert_eq!(status(Some(number[bound].to_string().into())), 200, "{path}: {name} as a string");
                    assert_eq!(status(Some(serde_json::from_str(beyond).unwrap())), 400, "{path}: {name}");
                }
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 10);
}

#[test]
fn described_limits_of_queries_are_the_real_ones() {
    let (document, app) = (document(), Fake::default().app());
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters = item.pointer("/get/parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        let query: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "query").collect();
        for parameter in &query {
            let name = parameter["name"].as_str().unwrap();
            let status = |value: Option<String>| {
                let others = query.iter().filter(|other| other["name"] != parameter["name"]);
                let others = others.map(|other| format!("{}={}", other["name"].as_str().unwrap(), other["example"]));
                let own = value.map(|value| format!("{name}={value}"));
                let target = format!("{path}?{}", others.chain(own).collect::<Vec<_>>().join("&"));
                get(&target).to(&app).status()
            };
            assert_eq!(status(None) == 400, parameter["required"] == true, "{path}: {name}");
            let schema = &parameter["schema"];
            if let Some(least) = schema["minimum"].as_i64() {
                assert_ne!(status(Some(least.to_string())), 400, "{path}: {name}");
                assert_eq!(status(Some((least - 1).to_string())), 400, "{path}: {name}");
            }
            if let Some(most) = schema["maximum"].as_i64() {
                assert_ne!(status(Some(most.to_string())), 400, "{path}: {name}");
                assert_eq!(status(Some((i128::from(most) + 1).to_string())), 400, "{path}: {name}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 5);
}

#[test]
fn described_codes_are_those_that_problems_have() {
    let document = document();
    let described = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    let described: BTreeSet<_> = described.iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(described, (1..=16).map(monitor::code_name).collect());
}
