//! Some of a user's feeds, in ascending id, in one piece of memory.
//!
//! ```text
//!   | id | length | content | id | length | content | ...
//! ```
//!
//! With a node in a map and an allocation of its own, a short text would take several times its bytes.

/// Bytes from which on a page of more than one feed is split: a feed more is copied into place in less time than a map
/// needs to find it.
const LONG: usize = 1024;

/// See the [module](self). It has no spare room: each change makes it anew.
#[derive(Debug, Default)]
pub(super) struct Page(Box<[u8]>);

impl Page {
    /// Ids and texts.
    pub(super) fn feeds(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.places().map(|place| (place.id, place.content))
    }

    /// Puts a feed in its place; where there was one of this id, it is gone.
    pub(super) fn put(&mut self, id: i64, content: &str) {
        let after = self.places().find(|place| place.id >= id);
        let start = after.as_ref().map_or(self.0.len(), |place| place.start);
        let end = after.filter(|place| place.id == id).map_or(start, |place| place.end);
        let (before, after) = (self.0.get(..start).unwrap_or_default(), self.0.get(end..).unwrap_or_default());
        let [id, length] = [id.to_ne_bytes(), content.len().to_ne_bytes()];
        self.0 = [before, &id, &length, content.as_bytes(), after].concat().into();
    }

    /// Of a long page, the latter half and its first id.
    pub(super) fn split(&mut self) -> Option<(i64, Self)> {
        let all = self.0.len();
        let inner = || self.places().skip(1).filter(|_| all > LONG);
        let Place { id, start, .. } = inner().find(|place| place.start >= all / 2).or_else(|| inner().last())?;
        let (before, after) = self.0.split_at_checked(start)?;
        let (before, after) = (before.into(), after.into());
        self.0 = before;
        Some((id, Self(after)))
    }

    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let start = self.0.len() - rest.len();
            let (id, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let content;
            (content, rest) = after.split_at_checked(usize::from_ne_bytes(*length))?;
            Some(Place { id: i64::from_ne_bytes(*id), content, start, end: self.0.len() - rest.len() })
        })
    }
}

/// A feed in its page, whose bytes it takes from `start` to `end`.
struct Place<'a> {
    id: i64,
    content: &'a [u8],
    start: usize,
    end: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ids(page: &Page) -> Vec<i64> {
        page.feeds().map(|(id, _)| id).collect()
    }

    #[test]
    fn feeds_stand_in_ascending_id_and_a_second_of_one_id_replaces_the_first() {
        let mut page = Page::default();
        for (id, content) in [(3, "three"), (1, "one"), (2, ""), (3, "another"), (i64::MAX, "last")] {
            page.put(id, content);
        }
        let feeds: Vec<_> = page.feeds().collect();
        assert_eq!(feeds, [(1, &b"one"[..]), (2, b""), (3, b"another"), (i64::MAX, b"last")]);
    }

    #[test]
    fn a_long_page_splits_where_both_halves_have_a_feed() {
        let long = "x".repeat(10 * LONG);
        let mut page = Page::default();
        page.put(1, &long);
        assert!(page.split().is_none(), "one feed stays one page");
        page.put(2, "");
        let (first, rest) = page.split().unwrap();
        assert_eq!((first, ids(&page), ids(&rest)), (2, vec![1], vec![2]));
        let mut page = Page::default();
        (1..=10).for_each(|id| page.put(id, ""));
        assert!(page.split().is_none(), "a short page stays one");
        page.put(11, &long);
        let (first, rest) = page.split().unwrap();
        assert_eq!((first, ids(&page).len(), ids(&rest)), (11, 10, vec![11]));
    }
}
