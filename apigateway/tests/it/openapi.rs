//! The document and the routes are the same.

use std::{collections::BTreeSet, time::Duration};

use client_core::{Degraded, Kind, Sent};
use proto::{feed::FeedRecord, profile::GetProfileResponse, topic::GetTopicResponse};
use serde_json::Value;
use tide::http::Method;
use tonic::Code;

use crate::fakes::{Call, Fake, Got, error, get, method, put};

fn document() -> Value {
    get("/openapi.json").to(&Fake::default().app()).json()
}

#[test]
fn every_route_is_in_the_document_and_no_other() {
    let document = document();
    let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, apigateway::TEMPLATES.iter().copied().collect());
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
    let mut examples = 0;
    for (path, item) in document()["paths"].as_object().unwrap() {
        let Some(example) = item.pointer("/put/requestBody/content/application~1json/example") else { continue };
        assert_eq!(crate::fakes::put(path, example.to_string()).to(&app).status(), 200, "{path}");
        examples += 1;
    }
    assert!(examples >= 3);
    assert_eq!(fake.calls(), examples);
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
    assert!(checked >= 10);
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
    assert!(checked >= 5);
}

#[test]
fn described_codes_are_those_that_problems_have() {
    let document = document();
    let described = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    let described: BTreeSet<_> = described.iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(described, (1..=16).map(monitor::code_name).collect());
}

/// A request that its route takes: the body of the document's example, or the query of the parameters' examples.
fn example(path: &str, item: &Value) -> Call {
    if let Some(body) = item.pointer("/put/requestBody/content/application~1json/example") {
        return put(path, body.to_string());
    }
    let parameters = item["get"]["parameters"].as_array().unwrap();
    let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
    let query = query.map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["example"]));
    get(&format!("{path}?{}", query.collect::<Vec<_>>().join("&")))
}

/// Whether every field of the value is in the schema and every field of the schema that must be is in the value.
fn assert_shape(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = follow(document, schema);
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| assert_shape(document, &schema["items"], item, place));
        assert!(items.len() as u64 <= schema["maxItems"].as_u64().unwrap_or(u64::MAX), "{place}");
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{place}: {name} is missing from {value}");
    }
    for (name, field) in fields {
        let described = &schema["properties"][name];
        assert!(described.is_object(), "{place}: {name} is not described");
        assert_shape(document, described, field, &format!("{place} {name}"));
    }
}

/// Whether an answer's status, type, header fields and body are in the document.
fn assert_described(document: &Value, path: &str, operation: &Value, got: &Got) {
    let place = format!("{path} {}", got.status());
    let described = &operation["responses"][got.status().to_string()];
    assert!(described.is_object(), "{place} is not described");
    let described = follow(document, described);
    let headers = described["headers"].as_object().unwrap();
    for name in got.response.header_names() {
        let known = headers.keys().any(|header| header.eq_ignore_ascii_case(name.as_str()));
        assert!(known || name.as_str() == "content-type", "{place}: {name} is not described");
    }
    for (name, header) in headers {
        let header = follow(document, header);
        assert!(header["required"] != true || got.header(name).is_some(), "{place}: {name} is missing");
    }
    let content_type = got.header("content-type").unwrap().split(';').next().unwrap();
    let schema = &described["content"][content_type]["schema"];
    assert!(schema.is_object(), "{place}: {content_type} is not described");
    if content_type == "application/problem+json" {
        let (problem, base) = (got.json(), &schema["allOf"][0]);
        assert_shape(document, base, &problem, &place);
        assert_eq!(schema["properties"]["status"]["const"], problem["status"], "{place}");
        let codes = schema["properties"]["code"]["enum"].as_array().unwrap();
        assert!(codes.contains(&problem["code"]), "{place}: {} is not described", problem["code"]);
    } else if content_type == "application/json" && path != "/openapi.json" {
        assert_shape(document, schema, &got.json(), &place);
    }
}

#[test]
fn every_answer_of_a_service_is_described() {
    let (document, fake) = (document(), Fake::default());
    let app = fake.app();
    let feed = FeedRecord { id: 1, user_id: 1, content: "c".into() };
    fake.with(|shared| {
        shared.feeds.insert((123, 101), feed.clone());
        shared.profile =
            Some(GetProfileResponse { feeds: vec![prost::Message::encode_to_vec(&feed)], ..Default::default() });
        shared.topic = Some(GetTopicResponse::default());
    });
    let mut statuses = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = item.as_object().unwrap().values().next().unwrap();
        let mut see = |got: Got| {
            assert_described(&document, path, operation, &got);
            statuses.insert(got.status());
        };
        see(example(path, item).to(&app));
        // Code 0 is OK, which no failure has.
        for code in (1..=16).map(Code::from_i32) {
            fake.with(|shared| shared.fail = Some(error(code, Sent::Maybe)));
            see(example(path, item).to(&app));
        }
        fake.with(|shared| shared.fail = None);
        for kind in [Kind::Default, Kind::Stale { age: Duration::from_secs(3) }] {
            fake.with(|shared| shared.degraded = Some(Degraded { kind, reason: Code::Unavailable }));
            see(example(path, item).to(&app));
        }
        fake.with(|shared| shared.degraded = None);
        see(example(path, item).header("Request-Timeout", "0").to(&app));
        see(method(Method::Patch, path).to(&app));
        if item.get("put").is_some() {
            for body in ["{}", "{}", "[]"] {
                see(put(path, body).header("Idempotency-Key", "k").to(&app));
            }
            see(example(path, item).header("Idempotency-Key", "k2").to(&app));
            see(example(path, item).header("Idempotency-Key", "k2").to(&app));
            see(put(path, vec![b' '; (1 << 20) + 1]).to(&app));
        }
        fake.with(|shared| shared.panic = true);
        see(example(path, item).to(&app));
        fake.with(|shared| shared.panic = false);
    }
    let all = [200, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 501, 503, 504];
    assert_eq!(statuses, all.into_iter().collect());
}

#[test]
fn what_readiness_lacks_is_described() {
    let options = apigateway::Options::default();
    options.readiness.add("registry", || Err("no list yet".into()));
    let got = get("/readyz").to(&Fake::default().app_with(options));
    assert_eq!(got.status(), 503);
    let document = document();
    assert_described(&document, "/readyz", &document["paths"]["/readyz"]["get"], &got);
}
