//! What clients give back to go on where they were: a `sync_token`, and the place of a page in the list. Pure.

use std::collections::HashSet;
use std::time::Duration;

use crate::domain::{Error, Result};

/// How far a `sync_token` lies back, so that what was being stored while it was made is listed next time.
const SYNC_OVERLAP: Duration = Duration::from_secs(20);
/// Conversations that a `sync_token` names; more that changed of late are told again.
const SYNC_TOLD_MAX: usize = 100;

/// What a `sync_token` says: everything that changed before `since_ms` was told, and of what changed later, the
/// conversations in `told` as (id, activity, last seq). The time lies back by [`SYNC_OVERLAP`], since a message is
/// given its time before it is stored; the list keeps what is known already from being told again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SyncToken {
    pub(super) since_ms: u64,
    pub(super) told: HashSet<(u64, u64, u64)>,
}

impl SyncToken {
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (since, told) = text.split_once(';').unwrap_or((text, ""));
        let states = told.split(',').filter(|state| !state.is_empty()).take(SYNC_TOLD_MAX);
        let parsed: Option<HashSet<_>> = states
            .map(|state| {
                let mut parts = state.split('.').map(|part| part.parse::<u64>().ok());
                Some((parts.next()??, parts.next()??, parts.next()??))
            })
            .collect();
        match (since.parse(), parsed) {
            (Ok(since_ms), Some(told)) => Ok(Self { since_ms, told }),
            _ => Err(Error::invalid(
                "since",
                "since is not a sync_token; send it as it was given, or leave it out",
            )),
        }
    }

    /// The one after this, for a page read at `now_ms` whose list's first page tells changes from `began_ms` on (0: it is
    /// the first): what moves up while a client reads on from page to page is behind none of them.
    pub(super) fn next(&self, now_ms: u64, began_ms: u64) -> Self {
        let lately = now_ms.saturating_sub(SYNC_OVERLAP.as_millis() as u64);
        let from_ms = if began_ms == 0 { lately } else { lately.min(began_ms) };
        Self { since_ms: from_ms.max(self.since_ms), told: HashSet::new() }
    }

    /// Whether the client does not know yet what changed in a conversation at `set_ms`; of one without a token, nobody asks.
    pub(super) fn is_news(&self, conversation_id: u64, set_ms: u64) -> bool {
        let told = self.told.iter().find(|(id, _, _)| *id == conversation_id);
        self.since_ms != 0 && set_ms >= self.since_ms && told.is_none_or(|(_, told_ms, _)| set_ms > *told_ms)
    }

    /// Notes that the client is told of a conversation's state at `now_ms`, if the next sync would find it again. One that
    /// lies ahead may still change: times of reading are rounded up.
    pub(super) fn tell(&mut self, state: (u64, u64, u64), now_ms: u64) {
        if (self.since_ms..=now_ms).contains(&state.1) && self.told.len() < SYNC_TOLD_MAX {
            self.told.insert(state);
        }
    }
}

impl std::fmt::Display for SyncToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.since_ms)?;
        for (at, (id, activity_ms, seq)) in self.told.iter().enumerate() {
            write!(f, "{}{id}.{activity_ms}.{seq}", if at == 0 { ';' } else { ',' })?;
        }
        Ok(())
    }
}

/// Where a page of the list begins: behind this conversation in its order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) activity_ms: u64,
    pub(super) id: u64,
    /// From when on the first page's `sync_token` tells changes; 0: there is none.
    pub(super) began_ms: u64,
}

impl Page {
    pub(super) fn parse(page: &str) -> Result<Option<Self>> {
        if page.is_empty() {
            return Ok(None);
        }
        let numbers: Option<Vec<u64>> = page.split('-').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some([activity_ms, id]) => Ok(Some(Self { activity_ms: *activity_ms, id: *id, began_ms: 0 })),
            Some([activity_ms, id, began_ms]) => {
                Ok(Some(Self { activity_ms: *activity_ms, id: *id, began_ms: *began_ms }))
            }
            _ => {
                Err(Error::invalid("page", "the page or cursor is not one that was given; start without it"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_when_the_first_one_was_read() {
        let page = |activity_ms, id, began_ms| Some(Page { activity_ms, id, began_ms });
        assert_eq!(Page::parse("7-8-9").ok(), Some(page(7, 8, 9)));
        assert_eq!(Page::parse("7-8").ok(), Some(page(7, 8, 0)));
        assert_eq!(Page::parse("").ok(), Some(None));
        for wrong in ["7", "x-8", "7-8-", "7-8-9-1"] {
            assert!(Page::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_pages_token_tells_what_moved_up_since_the_first_one() {
        let overlap_ms = SYNC_OVERLAP.as_millis() as u64;
        let token = SyncToken { since_ms: 1000, told: HashSet::new() };
        let first = token.next(1_000_000 + overlap_ms, 0);
        assert_eq!(first.since_ms, 1_000_000);
        assert_eq!(token.next(9_000_000, first.since_ms).since_ms, 1_000_000);
        assert_eq!(token.next(9_000_000, 1).since_ms, 1000, "nobody goes back behind what was told");
    }

    #[test]
    fn what_was_set_is_news_until_it_is_told() {
        let mut token = SyncToken { since_ms: 500, told: HashSet::new() };
        token.tell((7, 600, 3), 1000);
        assert!(!token.is_news(7, 550) && !token.is_news(7, 600) && token.is_news(7, 601));
        assert!(token.is_news(8, 500) && !token.is_news(8, 499));
        assert!(!SyncToken::default().is_news(8, 500));
    }

    #[test]
    fn a_sync_token_comes_back_as_it_was() {
        let mut token = SyncToken { since_ms: 500, told: HashSet::new() };
        token.tell((7, 600, 3), 1000);
        token.tell((8, 700, 0), 1000);
        token.tell((9, 400, 1), 1000);
        token.tell((9, 1001, 1), 1000);
        assert_eq!(
            token.told.len(),
            2,
            "what lies before the token's time is not found again, and what lies ahead may change"
        );
        assert_eq!(SyncToken::parse(&token.to_string()).ok(), Some(token));
        for wrong in ["x", "5;1.2", "5;1.x.3", "-1"] {
            assert!(SyncToken::parse(wrong).is_err(), "{wrong}");
        }
    }
}
