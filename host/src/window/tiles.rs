//! The tiles of one window of an entity. Events nearly always fall into the newest tile, so that one lies apart, and the others are passed on as they are until
//! an event falls into one of them.
//!
//! ```text
//! count · number of the newest (signed), length, cells · where there are others: steps from the newest back to the oldest and to the second newest,
//! and the others with their length before them, oldest first: steps from the tile before (but for the first), length, cells
//! ```

use super::cell::Cell;
use super::plan::Window;
use super::wire::{Reader, number_bytes, push_number, push_run, push_signed, run_bytes, signed_bytes};

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Tiles {
    closed: Closed,
    /// Newer than those that are closed, oldest first. If there are tiles at all, the newest is here.
    open: Vec<Tile>,
}

/// Tiles that nothing has fallen into: where they are in what the entity was read from.
#[derive(Clone, Copy, Default)]
struct Closed {
    from: u32,
    to: u32,
    many: u64,
    first: i64,
    last: i64,
}

#[derive(Clone)]
struct Tile {
    /// Event times from `number * tile` on.
    number: i64,
    cells: Cells,
}

#[derive(Clone)]
enum Cells {
    /// Where they begin and end in what the entity was read from.
    Stored(u32, u32),
    Open(Vec<Cell>),
}

/// The cells of one tile, to be looked at.
pub(super) enum TileCells<'t> {
    Stored(&'t [u8]),
    Open(&'t [Cell]),
}

/// Goes along closed tiles.
struct Walk<'s> {
    reader: Reader<'s>,
    number: i64,
    left: u64,
}

impl<'s> Walk<'s> {
    /// The number of a tile, its cells, and how many bytes are behind them.
    fn next(&mut self) -> Option<(i64, &'s [u8], usize)> {
        let (number, cells, behind) = (self.number, self.reader.run()?, self.reader.0.len());
        self.left -= 1;
        if self.left > 0 {
            self.number = self.number.wrapping_add(self.reader.number()? as i64);
        }
        Some((number, cells, behind))
    }
}

impl Closed {
    fn walk<'s>(&self, stored: &'s [u8]) -> Walk<'s> {
        Walk { reader: Reader(within(stored, self.from, self.to)), number: self.first, left: self.many }
    }

    fn drop_before(&mut self, stored: &[u8], first: i64) -> Option<()> {
        let mut walk = self.walk(stored);
        while walk.left > 0 && walk.number < first {
            walk.next()?;
        }
        self.from = self.to - u32::try_from(walk.reader.0.len()).ok()?;
        (self.many, self.first) = (walk.left, walk.number);
        Some(())
    }
}

impl Cells {
    fn open(&mut self, stored: &[u8], window: &Window) -> Option<&mut Vec<Cell>> {
        if let Cells::Stored(from, to) = *self {
            *self = Cells::Open(window.read_cells(within(stored, from, to))?);
        }
        match self {
            Cells::Open(cells) => Some(cells),
            Cells::Stored(..) => None,
        }
    }

    fn push(&self, out: &mut Vec<u8>, stored: &[u8], scratch: &mut Vec<u8>) {
        match self {
            Cells::Stored(from, to) => push_run(out, within(stored, *from, *to)),
            Cells::Open(cells) => {
                scratch.clear();
                cells.iter().for_each(|cell| cell.push(scratch));
                push_run(out, scratch);
            }
        }
    }
}

impl Cells {
    /// How many bytes [`Cells::push`] appends.
    fn bytes(&self, scratch: &mut Vec<u8>) -> usize {
        match self {
            Cells::Stored(from, to) => run_bytes((to - from) as usize),
            Cells::Open(cells) => {
                scratch.clear();
                cells.iter().for_each(|cell| cell.push(scratch));
                run_bytes(scratch.len())
            }
        }
    }
}

fn within(stored: &[u8], from: u32, to: u32) -> &[u8] {
    stored.get(from as usize..to as usize).unwrap_or_default()
}

impl Tiles {
    /// Of these numbers and cells, oldest first.
    pub(super) fn of(tiles: impl Iterator<Item = (i64, Vec<Cell>)>) -> Tiles {
        let open = tiles.map(|(number, cells)| Tile { number, cells: Cells::Open(cells) }).collect();
        Tiles { closed: Closed::default(), open }
    }

    /// `whole` is the length of what the reader goes along, up to its end.
    pub(super) fn read(reader: &mut Reader<'_>, whole: usize) -> Option<Tiles> {
        let many = reader.count()? as u64;
        if many == 0 {
            return Some(Tiles::default());
        }
        let newest = reader.signed()?;
        let (from, to) = range(reader, whole)?;
        let mut tiles = Tiles { closed: Closed::default(), open: vec![Tile { number: newest, cells: Cells::Stored(from, to) }] };
        if many > 1 {
            let (first, last) = (newest.wrapping_sub(reader.number()? as i64), newest.wrapping_sub(reader.number()? as i64));
            let (from, to) = range(reader, whole)?;
            tiles.closed = Closed { from, to, many: many - 1, first, last };
        }
        Some(tiles)
    }

    pub(super) fn push(&self, out: &mut Vec<u8>, stored: &[u8]) {
        push_number(out, self.closed.many + self.open.len() as u64);
        let Some((newest, others)) = self.open.split_last() else { return };
        let mut scratch = Vec::new();
        push_signed(out, newest.number);
        newest.cells.push(out, stored, &mut scratch);
        let first_open = others.first().map(|tile| tile.number);
        let first = if self.closed.many > 0 { Some(self.closed.first) } else { first_open };
        let Some(first) = first else { return };
        let last = others.last().map_or(self.closed.last, |tile| tile.number);
        push_number(out, newest.number.wrapping_sub(first) as u64);
        push_number(out, newest.number.wrapping_sub(last) as u64);
        let (mut opened, mut before) = (Vec::new(), (self.closed.many > 0).then_some(self.closed.last));
        for tile in others {
            if let Some(before) = before {
                push_number(&mut opened, tile.number.wrapping_sub(before) as u64);
            }
            before = Some(tile.number);
            tile.cells.push(&mut opened, stored, &mut scratch);
        }
        let closed = if self.closed.many > 0 { within(stored, self.closed.from, self.closed.to) } else { &[] };
        push_number(out, (closed.len() + opened.len()) as u64);
        out.extend_from_slice(closed);
        out.extend_from_slice(&opened);
    }

    /// How many bytes [`Tiles::push`] appends; what is passed on as it is is not looked at.
    pub(super) fn bytes(&self) -> usize {
        let many = number_bytes(self.closed.many + self.open.len() as u64);
        let Some((newest, others)) = self.open.split_last() else { return many };
        let mut scratch = Vec::new();
        let bytes = many + signed_bytes(newest.number) + newest.cells.bytes(&mut scratch);
        let has_closed = self.closed.many > 0;
        let first = others.first().map(|tile| tile.number);
        let first = if has_closed { Some(self.closed.first) } else { first };
        let Some(first) = first else { return bytes };
        let last = others.last().map_or(self.closed.last, |tile| tile.number);
        let steps = |from: i64, to: i64| number_bytes(to.wrapping_sub(from) as u64);
        let (mut run, mut before) =
            if has_closed { ((self.closed.to - self.closed.from) as usize, Some(self.closed.last)) } else { (0, None) };
        for tile in others {
            run += before.map_or(0, |before| steps(before, tile.number)) + tile.cells.bytes(&mut scratch);
            before = Some(tile.number);
        }
        bytes + steps(first, newest.number) + steps(last, newest.number) + run_bytes(run)
    }

    /// How many are taken apart, to be changed.
    pub(super) fn opened(&self) -> usize {
        self.open.iter().filter(|tile| matches!(tile.cells, Cells::Open(_))).count()
    }

    /// The cells of the tile that this moment falls into, which is made if it is not there.
    pub(super) fn cells_at(&mut self, time: i64, stored: &[u8], window: &Window) -> Option<&mut Vec<Cell>> {
        let newest = self.open.last().map(|tile| tile.number);
        if newest.is_none_or(|newest| !window.is_within(newest, time)) {
            let number = window.number(time);
            if newest.is_none_or(|newest| newest < number) {
                self.open.push(Tile { number, cells: Cells::Open(window.new_cells()) });
            } else {
                return self.older(number, stored)?.cells_or_new(number, stored, window);
            }
        }
        self.open.last_mut()?.cells.open(stored, window)
    }

    /// With everything taken apart that this tile may stand among.
    fn older(&mut self, number: i64, stored: &[u8]) -> Option<&mut Tiles> {
        if self.closed.many > 0 && number <= self.closed.last {
            let mut walk = self.closed.walk(stored);
            let mut all = Vec::with_capacity(self.closed.many as usize + self.open.len() + 1);
            while walk.left > 0 {
                let (number, cells, behind) = walk.next()?;
                let to = self.closed.to - u32::try_from(behind).ok()?;
                all.push(Tile { number, cells: Cells::Stored(to - u32::try_from(cells.len()).ok()?, to) });
            }
            all.append(&mut self.open);
            *self = Tiles { closed: Closed::default(), open: all };
        }
        Some(self)
    }

    fn cells_or_new(&mut self, number: i64, stored: &[u8], window: &Window) -> Option<&mut Vec<Cell>> {
        let at = self.open.partition_point(|tile| tile.number < number);
        if self.open.get(at).is_none_or(|tile| tile.number != number) {
            self.open.insert(at, Tile { number, cells: Cells::Open(window.new_cells()) });
        }
        self.open.get_mut(at)?.cells.open(stored, window)
    }

    /// Forgets tiles before this one.
    pub(super) fn drop_before(&mut self, first: i64, stored: &[u8]) -> Option<()> {
        if self.closed.many > 0 && self.closed.first < first {
            self.closed.drop_before(stored, first)?;
        }
        if self.closed.many == 0 {
            let gone = self.open.partition_point(|tile| tile.number < first);
            self.open.drain(..gone);
        }
        Some(())
    }

    /// Hands over the tiles from this number on, oldest first, each with its number. `None` where what is stored is cut short.
    pub(super) fn each<'t>(&'t self, first: i64, stored: &'t [u8], mut take: impl FnMut(i64, TileCells<'t>) -> Option<()>) -> Option<()> {
        let mut walk = self.closed.walk(stored);
        while walk.left > 0 {
            let (number, cells, _) = walk.next()?;
            if number >= first {
                take(number, TileCells::Stored(cells))?;
            }
        }
        self.open.iter().filter(|tile| tile.number >= first).try_for_each(|tile| match &tile.cells {
            Cells::Stored(from, to) => take(tile.number, TileCells::Stored(within(stored, *from, *to))),
            Cells::Open(cells) => take(tile.number, TileCells::Open(cells)),
        })
    }
}

/// Where a run begins and ends, counted from the front of what the reader goes along.
fn range(reader: &mut Reader<'_>, whole: usize) -> Option<(u32, u32)> {
    let length = reader.run()?.len();
    let to = whole - reader.0.len();
    Some((u32::try_from(to - length).ok()?, u32::try_from(to).ok()?))
}
