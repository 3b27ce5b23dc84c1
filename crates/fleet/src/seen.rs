//! A bounded memory of ids: the most recent ones are always remembered, the oldest are forgotten by halves.

/// Slots a table starts with.
const SLOTS_MIN: usize = 1 << 10;

/// Two generations of ids. When the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    young: Table,
    old: Table,
    half_max: usize,
    /// Ids that were forgotten so far.
    pub(crate) forgotten: u64,
}

impl Seen {
    pub(crate) fn new(ids_max: usize) -> Self {
        Self { young: Table::default(), old: Table::default(), half_max: filling(ids_max / 2), forgotten: 0 }
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }

    /// Remembers an id; says whether it is new.
    pub(crate) fn insert(&mut self, id: u64) -> bool {
        if self.contains(id) {
            return false;
        }
        if self.young.len >= self.half_max {
            self.forgotten += self.old.len as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.young.len + self.old.len
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        (self.young.slots.len() + self.old.slots.len()) * 8
    }

    /// The ids of the old and of the young generation, for saving.
    pub(crate) fn generations(&self) -> [Vec<u64>; 2] {
        [&self.old, &self.young].map(|table| table.slots.iter().copied().filter(|id| *id != 0).collect())
    }

    pub(crate) fn restore(ids_max: usize, generations: [Vec<u64>; 2], forgotten: u64) -> Self {
        let mut seen = Self { forgotten, ..Self::new(ids_max) };
        let [old, young] = generations;
        for id in old {
            seen.old.insert(id);
        }
        for id in young {
            seen.young.insert(id);
        }
        seen
    }
}

/// How many ids the largest table holds that is full with at most `ids_max` of them.
fn filling(ids_max: usize) -> usize {
    let slots = (ids_max.saturating_mul(8) / 7).max(SLOTS_MIN);
    (1 << slots.ilog2()) / 8 * 7
}

/// Open addressing with linear steps: eight bytes an id and nothing else. 0 is the empty slot.
#[derive(Debug, Clone, Default)]
struct Table {
    slots: Vec<u64>,
    len: usize,
}

impl Table {
    fn slot(&self, id: u64) -> usize {
        let spread = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut i = (spread ^ (spread >> 32)) as usize & (self.slots.len() - 1);
        while self.slots[i] != 0 && self.slots[i] != id {
            i = (i + 1) & (self.slots.len() - 1);
        }
        i
    }

    fn contains(&self, id: u64) -> bool {
        !self.slots.is_empty() && self.slots[self.slot(id.max(1))] != 0
    }

    fn insert(&mut self, id: u64) {
        if self.len >= self.slots.len() / 8 * 7 {
            self.grow();
        }
        let id = id.max(1);
        let i = self.slot(id);
        self.len += usize::from(self.slots[i] == 0);
        self.slots[i] = id;
    }

    fn grow(&mut self) {
        let doubled = (self.slots.len() * 2).max(SLOTS_MIN);
        let before = std::mem::replace(&mut self.slots, vec![0; doubled]);
        for id in before.into_iter().filter(|id| *id != 0) {
            let i = self.slot(id);
            self.slots[i] = id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::mix;

    #[test]
    fn remembers_at_least_the_last_half_and_never_grows_beyond_its_limit() {
        let mut seen = Seen::new(1_000_000);
        for i in 0..3_000_000u64 {
            assert!(seen.insert(mix(7, &[i])), "{i} was never seen");
            assert!(seen.len() <= 1_000_000);
        }
        assert!((2_600_000..3_000_000u64).all(|i| !seen.insert(mix(7, &[i]))));
        assert!(seen.bytes() <= 8 << 20, "{}", seen.bytes());
        assert_eq!(seen.forgotten + seen.len() as u64, 3_000_000);
    }

    #[test]
    fn ids_in_a_row_do_not_slow_it_down() {
        let mut seen = Seen::new(200_000);
        for i in 0..400_000u64 {
            assert!(seen.insert(i << 32));
        }
        assert!(!seen.insert(399_999 << 32));
    }
}
