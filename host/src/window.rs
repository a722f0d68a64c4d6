//! Windows over event time, and what a view remembers of an entity beside its newest row.
//!
//! A window of length `W` read at a moment `T` covers the event times in `(T - W, T]`. Its head is exact to the event. Its tail is rounded outwards to a
//! tile, a sixtieth of the window, counted from the Unix epoch: the answer is that of all events from `floor((T - W + 1) / tile) * tile` on, in microseconds,
//! up to and with `T`. Views that are `exact` keep their events instead of tiles, and then the tail is exact too. Either way **the value is a function of
//! the set of events and `T` alone**: neither the order in which they came nor when they were read changes it, and it decays with no new event.
//!
//! What is kept: events newer than `min(newest event, now) - history` one by one, so that any moment since can be asked for; older ones in tiles, as
//! far back as a window reaches, and the newest of them in lists, as many as a list may have. An event that no read can cover any more is too late.

mod adapt;
mod begun;
mod cell;
mod contribution;
mod entity;
mod frequent;
mod lasting;
mod log;
mod most;
mod plan;
mod quantiles;
mod room;
mod tiles;
mod total;
mod wire;
mod written;

pub use adapt::Shape;
pub use entity::{Added, Entity, EntityError};
pub use lasting::{Forgets, Lasting};
pub use plan::Plan;
