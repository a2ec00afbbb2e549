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
