//! Packed weights that memory has no room to keep: the one made last stays until the next takes its room.

use std::sync::{Arc, Mutex, PoisonError};

/// The last of things that are made one after another.
#[derive(Debug)]
pub(crate) struct Passing<K, T>(Mutex<Option<(K, Arc<T>)>>);

impl<K, T> Default for Passing<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, T> Passing<K, T> {
    /// The thing of this name: the last one, or what `make` makes, in the room of the last one if nobody holds that any more.
    pub fn get_or_make<E>(&self, name: K, make: impl FnOnce(Option<T>) -> Result<T, E>) -> Result<Arc<T>, E> {
        // Not locked while something is made: that hands work to threads which may come here, too.
        let cell = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = cell().take();
        let room = match last {
            Some((of, thing)) if of == name => {
                *cell() = Some((name, thing.clone()));
                return Ok(thing);
            }
            Some((_, thing)) => Arc::into_inner(thing),
            None => None,
        };
        let made = Arc::new(make(room)?);
        *cell() = Some((name, made.clone()));
        Ok(made)
    }

    /// Lets it go: what it was made of has changed.
    pub fn forget(&mut self) {
        *self.0.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn the_room_of_the_last_is_given_on_once_nobody_holds_it() {
        let mut passing: Passing<usize, Vec<u8>> = Passing::default();
        let room = |passing: &Passing<usize, Vec<u8>>, name: usize| {
            let mut given = None;
            let made = passing.get_or_make(name, |room| {
                given = Some(room);
                Ok::<_, Infallible>(vec![name as u8])
            });
            (made.unwrap(), given)
        };
        let (first, given) = room(&passing, 1);
        assert_eq!(given, Some(None), "nothing was there");
        assert_eq!(room(&passing, 1).1, None, "the last one is given again");
        assert_eq!(room(&passing, 2).1, Some(None), "the first is still held");
        assert_eq!(*first, [1]);
        assert_eq!(room(&passing, 3).1, Some(Some(vec![2])));
        passing.forget();
        assert_eq!(room(&passing, 3).1, Some(None), "what was let go is made anew");
    }
}
