//! `Idempotency-Key` on creates: the same key again gives the first answer, without doing the work again
//! (draft-ietf-httpapi-idempotency-key-header-07).
//!
//! ```text
//!   unknown key -> running -> the answer was final: remembered for a while
//!                     |   \--> it was not (5xx, 429, the caller left): forgotten, may be tried again
//!                     '-- asked again meanwhile: 409
//!   known key, other body: 422
//! ```
//!
//! The memory is this process's own: bounded, the least recently used answer goes first, and a second gateway does not
//! know it. That is enough for what it is for: a caller that did not get the answer to its create and sends it again.
//! What is running is kept apart, where nothing pushes it out or lets it expire: else the same create could run twice at
//! once, and the first to end would speak for the other.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;
use tide::{
    Response,
    http::{Headers, headers::HeaderName},
};

use crate::{Problem, render};

/// The longest key, in bytes.
pub(crate) const KEY_MAX: usize = 255;
/// On an answer that was given before: `true`.
pub(crate) const REPLAYED: &str = "idempotent-replayed";

/// The route, for a key is a route's own, and the key.
type Key = (&'static str, String);
/// Of a body: 128 bits that nobody outside can compute.
type Fingerprint = [u64; 2];

/// The keys that were seen lately.
#[derive(Debug)]
pub(crate) struct Keys {
    seen: Mutex<Seen>,
    age_max: Duration,
    hashers: [RandomState; 2],
}

#[derive(Debug)]
struct Seen {
    /// Being answered now: no more than requests are in flight.
    running: HashMap<Key, Fingerprint>,
    /// Answered.
    done: LruCache<Key, Done>,
}

#[derive(Clone, Debug)]
struct Done {
    fingerprint: Fingerprint,
    /// When it began.
    at: Instant,
    answer: Result<(), Problem>,
}

/// What is to be done with a create that has a key.
#[derive(Debug)]
pub(crate) enum Begun<'a> {
    /// It is new: do it, and tell the ticket how it ended.
    New(Ticket<'a>),
    /// It was done before, and this was the answer.
    Done(Result<(), Problem>),
}

/// A create that is running; forgotten when dropped before its end.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    keys: &'a Keys,
    key: Key,
    fingerprint: Fingerprint,
    began: Instant,
}

impl Keys {
    /// Remembers at most `entries` answers, each for `age_max`.
    pub(crate) fn new(entries: usize, age_max: Duration) -> Self {
        let entries = NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN);
        let seen = Mutex::new(Seen { running: HashMap::new(), done: LruCache::new(entries) });
        Self { seen, age_max, hashers: [RandomState::new(), RandomState::new()] }
    }

    /// A create on `route` with `key` and `body` comes in.
    ///
    /// # Errors
    /// 409: the one with this key is still running. 422: it had another body.
    pub(crate) fn begin(
        &self,
        route: &'static str,
        key: String,
        body: &[u8],
        now: Instant,
    ) -> Result<Begun<'_>, Problem> {
        let fingerprint = self.hashers.each_ref().map(|hasher| hasher.hash_one(body));
        let key = (route, key);
        let mut seen = self.seen();
        if let Some(running) = seen.running.get(&key) {
            return Err(if *running == fingerprint { Problem::key_in_flight() } else { Problem::key_reused() });
        }
        let fresh = |done: &&Done| now.saturating_duration_since(done.at) < self.age_max;
        if let Some(done) = seen.done.get(&key).filter(fresh) {
            let same = done.fingerprint == fingerprint;
            return if same { Ok(Begun::Done(done.answer.clone())) } else { Err(Problem::key_reused()) };
        }
        seen.running.insert(key.clone(), fingerprint);
        Ok(Begun::New(Ticket { keys: self, key, fingerprint, began: now }))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// It ended like this; remembered when trying again would end the same.
    pub(crate) fn end(self, answer: &Result<Response, Problem>) {
        let answer = match answer {
            Ok(_) => Ok(()),
            Err(problem) if problem.is_final() => Err(problem.clone()),
            Err(_) => return,
        };
        let done = Done { fingerprint: self.fingerprint, at: self.began, answer };
        self.keys.seen().done.put(self.key.clone(), done);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.keys.seen().running.remove(&self.key);
    }
}

/// The answer to a create that was given before.
pub(crate) fn replay(answer: Result<(), Problem>) -> Result<Response, Problem> {
    answer.map_err(Problem::replayed)?;
    let mut response = render::created();
    render::put(&mut response, HeaderName::from(REPLAYED), "true");
    Ok(response)
}

/// The key of a request, if it has one; as the draft writes it, in quotes, or bare.
///
/// # Errors
/// It is given more than once, is empty, too long, or holds anything but visible ASCII characters.
pub(crate) fn key(headers: &Headers) -> Result<Option<String>, Problem> {
    let Some(values) = headers.get("idempotency-key") else { return Ok(None) };
    let text = values.last().as_str();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let sane = (1..=KEY_MAX).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_graphic());
    if sane && values.iter().count() == 1 {
        return Ok(Some(bare.to_owned()));
    }
    Err(Problem::bad_request(format!(
        "Idempotency-Key must be given once, with 1 to {KEY_MAX} visible ASCII characters"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const ROUTE: &str = "/create";

    fn begin<'a>(keys: &'a Keys, key: &str, body: &str, now: Instant) -> Result<Begun<'a>, Problem> {
        keys.begin(ROUTE, key.into(), body.as_bytes(), now)
    }

    fn run(keys: &Keys, key: &str, body: &str, now: Instant, answer: &Result<Response, Problem>) {
        let Begun::New(ticket) = begin(keys, key, body, now).unwrap() else { panic!("{key} is known") };
        ticket.end(answer);
    }

    fn is_new(keys: &Keys, key: &str, body: &str, now: Instant) -> bool {
        matches!(begin(keys, key, body, now), Ok(Begun::New(_)))
    }

    #[test]
    fn the_first_answer_is_given_again_until_it_is_too_old() {
        let (keys, now) = (Keys::new(10, Duration::from_secs(60)), Instant::now());
        run(&keys, "a", "body", now, &Ok(render::created()));
        let later = now + Duration::from_secs(59);
        assert!(matches!(begin(&keys, "a", "body", later), Ok(Begun::Done(Ok(())))));
        assert_eq!(begin(&keys, "a", "other", later).unwrap_err().status(), 422);
        assert!(
            matches!(keys.begin("/other", "a".into(), b"other", later), Ok(Begun::New(_))),
            "keys are a route's own"
        );
        assert!(is_new(&keys, "a", "other", now + Duration::from_secs(60)));
    }

    #[test]
    fn a_refusal_is_an_answer_but_a_failure_is_not() {
        let (keys, now) = (Keys::new(10, Duration::from_secs(60)), Instant::now());
        run(&keys, "bad", "", now, &Err(Problem::bad_request("wrong")));
        let Ok(Begun::Done(Err(problem))) = begin(&keys, "bad", "", now) else { panic!("not remembered") };
        assert_eq!((problem.status(), problem.detail()), (400, "wrong"));
        run(&keys, "failed", "", now, &Err(Problem::overloaded()));
        assert!(is_new(&keys, "failed", "", now));
    }

    #[test]
    fn one_in_flight_is_not_done_twice_and_is_forgotten_when_its_caller_leaves() {
        let (keys, now) = (Keys::new(10, Duration::from_secs(60)), Instant::now());
        let ticket = begin(&keys, "a", "body", now).unwrap();
        assert_eq!(begin(&keys, "a", "body", now).unwrap_err().status(), 409);
        drop(ticket);
        assert!(is_new(&keys, "a", "body", now));
    }

    #[test]
    fn one_in_flight_neither_expires_nor_gives_way_to_others() {
        let (keys, now) = (Keys::new(1, Duration::from_secs(60)), Instant::now());
        let Ok(Begun::New(slow)) = begin(&keys, "slow", "body", now) else { panic!("slow is known") };
        for key in ["a", "b"] {
            run(&keys, key, "", now, &Ok(render::created()));
        }
        let later = now + Duration::from_secs(61);
        assert_eq!(begin(&keys, "slow", "body", later).unwrap_err().status(), 409);
        assert_eq!(begin(&keys, "slow", "other", later).unwrap_err().status(), 422);
        slow.end(&Ok(render::created()));
        assert!(is_new(&keys, "slow", "other", later), "the answer is as old as its beginning");
        assert!(keys.seen().running.is_empty());
    }

    #[test]
    fn the_least_recently_used_key_goes_first() {
        let (keys, now) = (Keys::new(2, Duration::from_secs(60)), Instant::now());
        for key in ["a", "b"] {
            run(&keys, key, "", now, &Ok(render::created()));
        }
        assert!(!is_new(&keys, "a", "", now));
        run(&keys, "c", "", now, &Ok(render::created()));
        assert!(!is_new(&keys, "a", "", now));
        assert!(is_new(&keys, "b", "", now));
    }
}
