//! How far behind a group is, for those who do not read: another host may.

use super::admin::{Admin, State};
use super::{Options, Start};
use crate::model::EntryId;
use crate::resp::Site;
use crate::source::{Error, Lag};

/// Looks at streams of one place and at one group of them, over one connection.
#[derive(Clone)]
pub struct Onlooker {
    admin: Admin,
    start: Start,
}

impl Onlooker {
    /// Prepares it; the server is first spoken to when something is asked.
    pub fn at(site: &Site, options: &Options) -> Result<Onlooker, Error> {
        Ok(Onlooker { admin: Admin::new(site.clone(), options)?, start: options.start })
    }

    /// How far behind the group is on the stream with this key, which is applied up to `place` as the store knows.
    pub async fn lag(&self, key: &str, place: Option<EntryId>) -> Result<Lag, Error> {
        let admin = Admin { key: key.to_owned(), ..self.admin.clone() };
        Ok(lag(&admin.state().await?, None, place.map_or(self.start, Start::After)))
    }
}

/// What the server's words say. `passed` is what a reader without acknowledgements has counted, and `place` is where reading would begin without a group.
pub(super) fn lag(state: &State, passed: Option<u64>, place: Start) -> Lag {
    let Some(stream) = &state.stream else { return Lag { entries: Some(0), pending: 0 } };
    let pending = state.group.as_ref().map_or(0, |group| group.pending);
    let entries = match (&state.group, place) {
        (Some(_), _) if passed.is_some() => passed.map(|passed| stream.added.saturating_sub(passed)),
        (Some(group), _) if stream.last <= group.last_delivered => Some(0),
        (Some(group), _) => group.lag,
        (None, Start::Beginning) => Some(stream.length),
        (None, Start::End) => Some(0),
        (None, Start::After(place)) => (stream.last <= place).then_some(0),
    };
    // A server counts what was trimmed before it was read among what is to come.
    let entries = if stream.length == 0 { Some(0) } else { entries.map(|entries| entries.min(stream.length)) };
    Lag { entries, pending }
}
