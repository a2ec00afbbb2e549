//! A profile in the protobuf form that `go tool pprof` reads.
//!
//! Written here, with the prost that the system has anyway: the profiler's own encoders would bring a second prost or
//! another protobuf library, each with a code generator. The tags are those of
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>; fields that are never set are left out.

use std::{collections::HashMap, time::UNIX_EPOCH};

use pprof::{Frames, Report};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// The report as protobuf, not yet compressed.
pub(super) fn encode(report: &Report) -> Vec<u8> {
    let mut tables = Tables::default();
    // The format asks for an empty string at place 0.
    tables.text("");
    let period = 1_000_000_000 / i64::from(report.timing.frequency.max(1));
    let samples = report.data.iter().map(|(stack, count)| tables.sample(stack, *count as i64, period)).collect();
    let count = ValueType { kind: tables.text("samples"), unit: tables.text("count") };
    let cpu = ValueType { kind: tables.text("cpu"), unit: tables.text("nanoseconds") };
    let start = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Profile {
        sample_type: vec![count, cpu],
        sample: samples,
        location: tables.locations,
        function: tables.functions,
        string_table: tables.strings,
        time_nanos: i64::try_from(start.as_nanos()).unwrap_or(0),
        duration_nanos: i64::try_from(report.timing.duration.as_nanos()).unwrap_or(0),
        period_type: Some(cpu),
        period,
    }
    .encode_to_vec()
}

/// What samples refer to by number.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    places: HashMap<String, i64>,
    functions: Vec<Function>,
    locations: Vec<Location>,
    /// By function name and line.
    known: HashMap<(i64, u32), u64>,
}

impl Tables {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }

    fn sample(&mut self, stack: &Frames, count: i64, period: i64) -> Sample {
        let location_id = stack.frames.iter().flatten().map(|symbol| self.location(symbol)).collect();
        let thread = Label { key: self.text("thread"), text: self.text(&stack.thread_name_or_id()) };
        Sample { location_id, value: vec![count, count.saturating_mul(period)], label: vec![thread] }
    }

    fn location(&mut self, symbol: &pprof::Symbol) -> u64 {
        let (name, line) = (self.text(&symbol.name()), symbol.lineno());
        if let Some(id) = self.known.get(&(name, line)) {
            return *id;
        }
        // One function and one location each, with one number; 0 is not allowed.
        let id = self.functions.len() as u64 + 1;
        let (system_name, filename) = (self.text(&symbol.sys_name()), self.text(&symbol.filename()));
        self.functions.push(Function { id, name, system_name, filename });
        self.locations.push(Location { id, line: vec![Line { function_id: id, line: line.into() }] });
        self.known.insert((name, line), id);
        id
    }
}
