//! Random queries and bodies: none panics, what is taken is what was meant, and what is refused is told where.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Map, Value, json};
use tide::http::Url;

use crate::{Problem, body::Fields, query::Query};

/// Of each kind.
const CASES: usize = 150_000;

fn random() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}"); // shown when the test fails
    fastrand::Rng::with_seed(seed)
}

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

/// An integer around the places where something could go wrong, as text.
fn integer(random: &mut fastrand::Rng) -> String {
    const EDGES: [i128; 8] =
        [0, 1, 1000, 1 << 53, i64::MAX as i128, i64::MIN as i128, u64::MAX as i128, 99_999_999_999_999_999_999_999];
    match random.u8(..4) {
        0 => random.i64(..).to_string(),
        1 => random.i64(-3..2000).to_string(),
        _ => (EDGES[random.usize(..EDGES.len())] + random.i128(-2..=2)).to_string(),
    }
}

/// What RFC 3986 lets stand for the same text.
fn encoded(random: &mut fastrand::Rng, text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'_' | b'0'..=b'9' | b'-' | b'.' if random.u8(..6) > 0 => char::from(byte).to_string(),
        b' ' if random.bool() => "+".to_owned(),
        _ if random.bool() => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

/// Decimal digits with an optional minus in i64, by other means than the parser's.
fn model(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.chars().all(|letter| letter.is_ascii_digit()) {
        return None;
    }
    let size = digits
        .chars()
        .try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit.to_digit(10)?)))?;
    i64::try_from(if text.starts_with('-') { -size } else { size }).ok()
}

#[test]
fn random_queries_give_what_they_mean_or_the_name_of_what_is_wrong() {
    let (mut random, mut taken) = (random(), 0);
    for _ in 0..CASES {
        let (mut query, mut given) = (String::new(), Vec::new());
        for _ in 0..random.usize(..5) {
            let name = pick(&mut random, &["user_id", "size", "after_id", "other", "user", "size ", ""]);
            let value = match random.u8(..6) {
                0 => pick(&mut random, &["", "-", "+1", " 1", "1e3", "0x1", "é", "١", "\0", "1.0", "--1", "00"])
                    .to_owned(),
                _ => integer(&mut random),
            };
            let pair = format!("{}={}", encoded(&mut random, name), encoded(&mut random, &value));
            query += pick(&mut random, &["&", "&&", "&&&"]);
            query += &pair;
            given.push((name, value));
        }
        let url = Url::parse(&format!("http://gateway/?{query}")).unwrap();
        let fields = Query::of(&url, ["user_id", "size", "after_id"]);
        for name in ["user_id", "size", "after_id"] {
            let values: Vec<_> = given.iter().filter(|pair| pair.0 == name).map(|pair| pair.1.as_str()).collect();
            let got = fields.integer(name);
            match (values.as_slice(), &got) {
                ([], Ok(None)) => {}
                ([value], Ok(Some(number))) => {
                    assert_eq!(model(value), Some(*number), "{query}");
                    taken += 1;
                }
                ([value], Err(problem)) => {
                    assert!(model(value).is_none() && tells(problem, name), "{query}: {problem:?}")
                }
                ([_, _, ..], Err(problem)) => assert!(tells(problem, name), "{query}: {problem:?}"),
                _ => panic!("{query}: {name} is {got:?}"),
            }
        }
    }
    assert!(taken > CASES / 4, "{taken}");
}

#[test]
fn random_bytes_in_a_query_never_panic() {
    let mut random = random();
    for _ in 0..CASES {
        let query: String = (0..random.usize(..12))
            .map(|_| {
                pick(&mut random, &["size", "=", "&", "%", "%2", "%00", "%ff", "+", "1", "é", ";", "#", "?", "[", "]"])
            })
            .collect();
        let Ok(url) = Url::parse(&format!("http://gateway/?{query}")) else { continue };
        if let Err(problem) = Query::of(&url, ["size"]).integer("size") {
            assert!(tells(&problem, "size"), "{query}: {problem:?}");
        }
    }
}

fn tells(problem: &Problem, name: &str) -> bool {
    problem.status() == 400 && problem.detail().starts_with(name)
}

type Record = (i64, i64, String);

fn parse(body: &[u8]) -> Result<Record, Problem> {
    let mut fields = Fields::parse(body, ["id", "user_id", "content"])?;
    Ok((fields.id("id")?, fields.id("user_id")?, fields.text("content")?))
}

/// What another reader makes of a body; `None` for what should not be taken.
fn reference(body: &[u8]) -> Option<Record> {
    let object: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let id = |name: &str| {
        let id = match object.get(name)? {
            Value::Number(number) => number.as_i64().or_else(|| {
                let float =
                    number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < (1_i64 << 53) as f64)?;
                number.as_u64().is_none().then_some(float as i64)
            }),
            Value::String(text) => model(text),
            _ => None,
        };
        id.filter(|id| *id >= 1)
    };
    let content = object.get("content")?.as_str()?;
    let fits = content.len() <= 64 << 10 && !content.contains('\0');
    Some((id("id")?, id("user_id")?, fits.then(|| content.to_owned())?))
}

/// A text with its escapes chosen at random.
fn quoted(random: &mut fastrand::Rng, text: &str) -> String {
    let mut json = String::from('"');
    for letter in text.chars() {
        let mut units = [0; 2];
        match letter {
            '"' | '\\' => json.extend(['\\', letter]),
            _ if letter < ' ' || random.u8(..8) == 0 => {
                for unit in letter.encode_utf16(&mut units) {
                    json += &format!("\\u{unit:04x}");
                }
            }
            _ => json.push(letter),
        }
    }
    json + "\""
}

fn body(random: &mut fastrand::Rng) -> String {
    let mut fields: Vec<String> = Vec::new();
    for name in ["id", "user_id"] {
        let integer = integer(random);
        let value = match random.u8(..8) {
            0 => quoted(random, &integer),
            1 => integer + pick(random, &[".0", ".5", "e0", "e2", "e-1", "E400"]),
            2 => pick(random, &["null", "true", "[]", "{}", "\"\"", "-0", "1e15", "1e16", "9007199254740993.0"])
                .to_owned(),
            _ => integer,
        };
        fields.push(format!("\"{name}\": {value}"));
    }
    let letters = ['a', '"', '\\', '/', '\u{7}', 'é', '漢', '\u{1f600}', '\u{2028}', ' '];
    let text: String = (0..random.usize(..12)).map(|_| letters[random.usize(..letters.len())]).collect();
    fields.push(format!("\"content\":{}", quoted(random, &text)));
    if random.u8(..4) == 0 {
        fields.push("\"other\": [{\"id\": [1, 2.5e3, null]}, {}]".to_owned());
    }
    if random.u8(..16) == 0 {
        fields.swap_remove(0);
    }
    random.shuffle(&mut fields);
    format!("{{{}}}", fields.join(pick(random, &[",", ", ", "\n,\t"])))
}

#[test]
fn random_bodies_are_read_as_another_reader_reads_them_or_told_what_is_wrong() {
    let (mut random, mut taken, mut refused) = (random(), 0, 0);
    for _ in 0..CASES {
        let mut body = body(&mut random).into_bytes();
        for _ in 0..[0, 0, 1, 3][random.usize(..4)] {
            let place = random.usize(..body.len());
            match random.u8(..3) {
                0 => body[place] = random.u8(..),
                1 => body.truncate(place.max(1)),
                _ => body.insert(place, *random.choice(b"{}[],:\"\\0 e-").unwrap()),
            }
        }
        let shown = String::from_utf8_lossy(&body);
        match (parse(&body), reference(&body)) {
            (Ok(record), Some(other)) => {
                assert_eq!(record, other, "{shown}");
                taken += 1;
            }
            (Ok(record), None) => panic!("{shown} is taken for {record:?}"),
            (Err(problem), other) => {
                // A name twice: the other reader takes the last.
                let twice = problem.detail().contains("given more than once");
                assert!(other.is_none() || twice, "{shown}: {problem:?}");
                let told =
                    ["the body", "id ", "user_id ", "content "].iter().any(|word| problem.detail().starts_with(word));
                assert!(problem.status() == 400 && told, "{shown}: {problem:?}");
                refused += 1;
            }
        }
    }
    assert!(taken > CASES / 10 && refused > CASES / 10, "{taken} {refused}");
}

#[test]
fn any_integer_and_text_come_through_a_body_as_they_were() {
    let mut random = random();
    for _ in 0..CASES / 3 {
        let (id, user) = (random.i64(1..), random.i64(1..=i64::MAX));
        let text: String = (0..random.usize(..20)).map(|_| random.char(..)).filter(|letter| *letter != '\0').collect();
        let body = json!({"id": id, "user_id": user.to_string(), "content": text}).to_string();
        assert_eq!(parse(body.as_bytes()).unwrap(), (id, user, text), "{body}");
    }
}
