//! Places with numbers: a few of them without an allocation, and a table whose places are used again.

/// Up to `N` numbers of places, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Few<const N: usize> {
    len: u8,
    places: [u32; N],
}

impl<const N: usize> Few<N> {
    pub(super) const fn new() -> Self {
        Self { len: 0, places: [0; N] }
    }

    /// Says whether there was room for it, or it was there.
    pub(super) fn push(&mut self, place: u32) -> bool {
        if self.as_slice().contains(&place) {
            return true;
        }
        let Some(free) = self.places.get_mut(usize::from(self.len)) else { return false };
        *free = place;
        self.len += 1;
        true
    }

    pub(super) fn as_slice(&self) -> &[u32] {
        self.places.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// A table whose freed places are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, item: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(item);
            return place;
        }
        self.places.push(Some(item));
        u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
    }

    /// Puts an item at its place; places before it that nobody has are free.
    pub(super) fn insert_at(&mut self, place: u32, item: T) {
        while self.places.len() <= place as usize {
            self.free.push(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
            self.places.push(None);
        }
        self.free.retain(|free| *free != place);
        self.places[place as usize] = Some(item);
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<T> {
        let item = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(item)
    }

    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.places).filter_map(|(place, item)| Some((place, item.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
