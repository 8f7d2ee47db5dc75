//! Factors whose levels are a closed list of names. One macro writes the enum, its names and the
//! reading of a name, so that no name stands in two places.

use crate::error::GamesError;
use crate::suggest;

/// Declares an enum whose variants have names in files, flags and tables.
macro_rules! levels {
    ($(#[$meta:meta])* $type:ident, $what:literal {
        $($(#[$variant_meta:meta])* $variant:ident = $name:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$variant_meta])* $variant),+
        }

        impl $type {
            /// All of them, in their usual order.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// The name in files, flags and tables.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::GamesError;
            fn from_str(name: &str) -> Result<Self, Self::Err> {
                let found = $type::ALL.iter().copied().find(|level| level.name() == name);
                found.ok_or_else(|| $crate::levels::unknown($what, name, &[$($name),+]))
            }
        }
    };
}
pub(crate) use levels;

/// The error for a name that is not in its list.
pub(crate) fn unknown(what: &'static str, name: &str, known: &[&str]) -> GamesError {
    GamesError::UnknownName {
        what,
        name: name.to_owned(),
        hint: suggest::hint(name, known),
        known: suggest::list(known),
    }
}

levels! {
    /// Which of the two actions comes first: in a mention ("x or y"), in the rows or in the columns
    /// of the table. Orders are of meanings, not of symbols, so exchanging the labels of a prompt
    /// exchanges the two symbols everywhere and changes nothing else.
    Order, "order" {
        /// The symbol for cooperating comes first.
        CooperateFirst = "cd",
        /// The symbol for defecting comes first.
        DefectFirst = "dc",
    }
}

levels! {
    /// Which symbol of a pair stands for which action.
    Labels, "label assignment" {
        /// The pair's first symbol means cooperate.
        Straight = "straight",
        /// The pair's second symbol means cooperate.
        Swapped = "swapped",
    }
}
